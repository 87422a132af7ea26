"""funcgrad.sharding: JAX's names for where arrays live. There is one device, and every sharding places all on it."""

from funcgrad.core.shardings import AxisType as AxisType
from funcgrad.core.shardings import Mesh as Mesh
from funcgrad.core.shardings import NamedSharding as NamedSharding
from funcgrad.core.shardings import PartitionSpec as PartitionSpec
from funcgrad.core.shardings import Shard as Shard
from funcgrad.core.shardings import Sharding as Sharding
from funcgrad.core.shardings import SingleDeviceSharding as SingleDeviceSharding
from funcgrad.core.shardings import get_mesh as get_mesh
from funcgrad.core.shardings import make_array_from_callback as make_array_from_callback
from funcgrad.core.shardings import make_array_from_process_local_data as make_array_from_process_local_data
from funcgrad.core.shardings import make_array_from_single_device_arrays as make_array_from_single_device_arrays
from funcgrad.core.shardings import make_mesh as make_mesh
from funcgrad.core.shardings import reshard as reshard
from funcgrad.core.shardings import set_mesh as set_mesh
from funcgrad.core.shardings import with_sharding_constraint as with_sharding_constraint
from funcgrad.errors import explain_missing_names as _explain_missing_names

P = PartitionSpec

_explain_missing_names(__name__)

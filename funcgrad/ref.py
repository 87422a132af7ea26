"""funcgrad.ref: mutable arrays. `funcgrad.new_ref` makes one; see `funcgrad.transforms.refs` for how they are pure."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.refs.functions import addupdate as addupdate
from funcgrad.transforms.refs.functions import empty_ref as empty_ref
from funcgrad.transforms.refs.functions import free_ref as free_ref
from funcgrad.transforms.refs.functions import freeze as freeze
from funcgrad.transforms.refs.functions import get as get
from funcgrad.transforms.refs.functions import new_ref as new_ref
from funcgrad.transforms.refs.functions import set as set
from funcgrad.transforms.refs.functions import swap as swap
from funcgrad.transforms.refs.ref import Ref as Ref

_explain_missing_names(__name__)

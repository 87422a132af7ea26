"""One hypothesis strategy per primitive: valid calls, with operands where derivatives are well defined.

`CALLS` is the one table, primitive name → function of the dtypes allowed → strategy. A primitive of your own
joins by `CALLS["name"] = …`. The modules of the package fill the table.
"""

from funcgrad.testing.calls import arrays as arrays
from funcgrad.testing.calls import collectives as collectives
from funcgrad.testing.calls import elementwise as elementwise
from funcgrad.testing.calls import higher_order as higher_order
from funcgrad.testing.calls import indexing as indexing
from funcgrad.testing.calls import linalg as linalg
from funcgrad.testing.calls import windows as windows
from funcgrad.testing.calls.table import CALLS as CALLS
from funcgrad.testing.calls.table import DISCRETE as DISCRETE
from funcgrad.testing.calls.table import DOUBLE as DOUBLE
from funcgrad.testing.calls.table import WITHOUT_LAWS as WITHOUT_LAWS
from funcgrad.testing.calls.table import Call as Call
from funcgrad.testing.calls.table import calls as calls
from funcgrad.testing.calls.table import calls_of as calls_of
from funcgrad.testing.calls.table import strategy as strategy

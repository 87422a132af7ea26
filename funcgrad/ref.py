"""funcgrad.ref: mutable arrays. `funcgrad.new_ref` makes one; see `funcgrad.transforms.refs` for how they are pure."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.refs import Ref as Ref
from funcgrad.transforms.refs import addupdate as addupdate
from funcgrad.transforms.refs import empty_ref as empty_ref
from funcgrad.transforms.refs import free_ref as free_ref
from funcgrad.transforms.refs import freeze as freeze
from funcgrad.transforms.refs import get as get
from funcgrad.transforms.refs import new_ref as new_ref
from funcgrad.transforms.refs import set as set
from funcgrad.transforms.refs import swap as swap

_explain_missing_names(__name__)

"""What a checkpointed function saves: names, policies, and a listing of it. The function is `funcgrad.checkpoint`."""

from funcgrad.errors import explain_missing_names as _explain_missing_names
from funcgrad.transforms.checkpoint import policies as _policies
from funcgrad.transforms.checkpoint.policies import Offloadable as Offloadable
from funcgrad.transforms.checkpoint.policies import Recompute as Recompute
from funcgrad.transforms.checkpoint.policies import Saveable as Saveable
from funcgrad.transforms.checkpoint.policies import checkpoint_name as checkpoint_name
from funcgrad.transforms.checkpoint.residuals import print_saved_residuals as print_saved_residuals
from funcgrad.transforms.checkpoint.residuals import saved_residuals as saved_residuals

checkpoint_policies = _policies

_explain_missing_names(__name__)

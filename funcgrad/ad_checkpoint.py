"""What a checkpointed function saves: names, policies, and a listing of it. The function is `funcgrad.checkpoint`."""

from funcgrad.transforms import checkpoint_policies as checkpoint_policies
from funcgrad.transforms.checkpoint_policies import Offloadable as Offloadable
from funcgrad.transforms.checkpoint_policies import Recompute as Recompute
from funcgrad.transforms.checkpoint_policies import Saveable as Saveable
from funcgrad.transforms.checkpoint_policies import checkpoint_name as checkpoint_name
from funcgrad.transforms.saved_residuals import print_saved_residuals as print_saved_residuals
from funcgrad.transforms.saved_residuals import saved_residuals as saved_residuals

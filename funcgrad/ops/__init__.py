"""First-order primitives, each declared once with all its rules; and reductions over segments for users."""

from funcgrad.ops.segments import segment_max as segment_max
from funcgrad.ops.segments import segment_min as segment_min
from funcgrad.ops.segments import segment_prod as segment_prod
from funcgrad.ops.segments import segment_sum as segment_sum

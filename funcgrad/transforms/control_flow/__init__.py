"""Control flow whose course depends on values: branches and loops, as primitives that carry jaxprs."""

from funcgrad.transforms.control_flow.branching import cond as cond
from funcgrad.transforms.control_flow.branching import platform_dependent as platform_dependent
from funcgrad.transforms.control_flow.branching import switch as switch
from funcgrad.transforms.control_flow.mapping import map as map
from funcgrad.transforms.control_flow.scan import scan as scan
from funcgrad.transforms.control_flow.while_loop import fori_loop as fori_loop
from funcgrad.transforms.control_flow.while_loop import while_loop as while_loop

"""jaxpr → groups: which equations one kernel computes."""

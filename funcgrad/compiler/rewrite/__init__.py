"""jaxpr → jaxpr: the passes that rewrite equations."""

"""Functions with user-defined derivatives or batching: by rules, or by the equation that a function solves."""

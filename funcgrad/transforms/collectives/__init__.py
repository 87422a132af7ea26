"""Reductions and exchanges over the named axes of `vmap`."""

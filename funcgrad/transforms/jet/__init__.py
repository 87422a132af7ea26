"""jet: Taylor series of functions."""

from funcgrad.transforms.jet.transform import jet

__all__ = ["jet"]

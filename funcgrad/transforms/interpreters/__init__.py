"""Traces that interpret a program by the rules of its primitives, and the same for whole jaxprs."""

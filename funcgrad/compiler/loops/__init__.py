"""The loop language: its grammar, scalar operations, checker, and rendering as Python."""

"""First-order primitives, each declared once with all its rules."""

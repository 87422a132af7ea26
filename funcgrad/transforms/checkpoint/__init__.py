"""Checkpoints: which residuals reverse mode saves, and which it recomputes."""

"""Feeding data to training loops."""

from funcgrad.data.batches import batches as batches

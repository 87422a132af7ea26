"""Refs: arrays that change, in programs that stay pure functions."""

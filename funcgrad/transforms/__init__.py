"""Transforms: functions of functions, and the higher-order primitives whose rules use them."""

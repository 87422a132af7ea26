"""The things everybody speaks of: avals, arrays, primitives, jaxprs, tracing, printing, checking."""

from funcgrad.core import printing as printing

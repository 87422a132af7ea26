"""From what users pass to what primitives take: operands, axes, shapes and numbers; shared by lax, numpy and others."""

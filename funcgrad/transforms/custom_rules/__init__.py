"""Functions whose derivatives, or behavior under vmap, users say: by rules, or by what the function solves."""

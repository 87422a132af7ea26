"""Functions whose derivatives, or behaviour under vmap, users say: by rules, or by what the function solves."""

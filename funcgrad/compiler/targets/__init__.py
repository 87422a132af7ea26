"""How programs are compiled, linked and run: a folder per target."""

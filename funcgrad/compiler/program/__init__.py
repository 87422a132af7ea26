"""groups → program: instructions with symbolic callees, where values live, and what runs them."""

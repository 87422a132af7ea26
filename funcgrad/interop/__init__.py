"""Other ecosystems: what funcgrad gives to them, and takes from them."""

"""Byzantine nodes: attacks, and the rules that withstand them."""

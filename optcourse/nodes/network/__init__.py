"""The network: n nodes of which a process owns some rows, what they say to each other, and who is lost."""

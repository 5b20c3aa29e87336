"""Grade labs."""

"""Training sets out of large tagged collections."""

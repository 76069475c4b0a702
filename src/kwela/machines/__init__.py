"""Rented machines of any cloud, and what this machine has and does."""

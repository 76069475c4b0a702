"""Decide what a campaign does: the gate, its red flags, and the losses that both look at."""

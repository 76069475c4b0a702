"""Tune a model for weeks inside a budget: count the money, decide, run the training, and report."""

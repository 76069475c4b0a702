"""The judges: each measures what a model made, and knows nothing of its training."""

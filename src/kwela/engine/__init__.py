"""The one training loop, its checkpoints and its logs. It knows the name of no model."""

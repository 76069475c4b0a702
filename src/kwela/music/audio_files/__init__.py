"""Audio files: what is in them, how much of it decodes, and exact segments of it."""

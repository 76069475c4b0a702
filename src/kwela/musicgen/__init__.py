"""MusicGen: fine-tune its language model on clips with tags, and generate audio from prompts."""

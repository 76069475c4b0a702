"""Spectocloud: audio, notes and an emotion to a coloured cloud of 1,200 points."""

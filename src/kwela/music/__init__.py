"""Represent music: audio, MIDI, the 388 ids, emotion. Pure functions that know no data set and no model."""

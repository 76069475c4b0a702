"""`kwela judge midi`: measure a MIDI generator."""

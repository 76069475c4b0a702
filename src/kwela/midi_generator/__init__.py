"""The MIDI generator: emotion and musical context in, songs as ids out."""

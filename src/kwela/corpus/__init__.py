"""Corpora: pairs of audio and MIDI, tagged collections, the demo's pieces."""

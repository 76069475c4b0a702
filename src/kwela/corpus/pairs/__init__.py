"""Pairs of audio and MIDI, and their manifests."""

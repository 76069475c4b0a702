"""kwela: folders of audio and MIDI in; trained, judged and exported music models out."""

__version__ = "0.1.0"

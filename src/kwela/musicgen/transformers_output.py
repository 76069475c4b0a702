"""Control what the transformers library prints."""

from __future__ import annotations


def silence_transformers() -> None:
    """Keep the notices and progress bars of transformers off the terminal; kwela prints its own."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

"""A small network."""

from __future__ import annotations

import pytest
import torch
from midi_songs import SETTINGS

from kwela.midi_generator.model import MidiGenerator, build


@pytest.fixture
def network() -> MidiGenerator:
    """Random weights, large enough that every path shows in the logits."""
    torch.manual_seed(3)
    made = build(SETTINGS)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1 * (parameter != 0))
    return made.eval()

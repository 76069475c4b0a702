"""A tiny model of each family, its checkpoint and its export, made once a session."""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path

import pytest
import torch
from tiny_checkpoints import CLOUD_SIZE, MIDI_SIZE, save, sixteen_bars
from torch import nn

from kwela.export import run, to_coreml
from kwela.midi_generator import model as generator_model
from kwela.spectocloud import model as spectocloud

logging.getLogger("torch.__trace").propagate = False  # pytest would keep torch.export's every step


@pytest.fixture(scope="session")
def midi_model() -> generator_model.MidiGenerator:
    """A tiny generator that has learned `sixteen_bars` by heart, so that greedy generation ends its bars."""
    torch.manual_seed(0)
    model = generator_model.build(MIDI_SIZE)
    ids = torch.tensor([sixteen_bars()])
    emotion, context = torch.full((1, 64), 0.25), torch.zeros(1, ids.shape[1] - 1, 4, dtype=torch.long)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(120):
        logits, _, _ = model(ids[:, :-1], emotion, context)
        loss = nn.functional.cross_entropy(logits[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def midi_checkpoint(
    midi_model: generator_model.MidiGenerator, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return save(tmp_path_factory.mktemp("midi") / "best.pt", "midi_generator", MIDI_SIZE, midi_model)


@pytest.fixture
def no_coreml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_coreml, "available", lambda: False)


@pytest.fixture(scope="session")
def midi_export(midi_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a MIDI generator exported without coremltools, and what was printed."""
    out = tmp_path_factory.mktemp("exports") / "exports"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setattr(to_coreml, "available", lambda: False)
        run._say_no_coreml.cache_clear()
        run.export("midi_generator", midi_checkpoint, out)
    return out, said.getvalue()


@pytest.fixture(scope="session")
def cloud_model() -> spectocloud.Spectocloud:
    """A tiny model whose every weight counts: layers that training starts at zero are not zero here."""
    torch.manual_seed(0)
    model = spectocloud.build(CLOUD_SIZE)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return model.eval()


@pytest.fixture(scope="session")
def cloud_export(cloud_model: spectocloud.Spectocloud, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Spectocloud exported without coremltools."""
    folder = tmp_path_factory.mktemp("cloud")
    source = save(folder / "best.pt", "spectocloud", CLOUD_SIZE, cloud_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(to_coreml, "available", lambda: False)
        run.export("spectocloud", source, folder / "exports")
    return folder / "exports"

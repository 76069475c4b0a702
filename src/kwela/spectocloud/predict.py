"""Predict the cloud of a segment of an audio file with a trained model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from kwela.errors import UserError
from kwela.music import audio, midi
from kwela.music.emotion import to_64d
from kwela.spectocloud import space
from kwela.spectocloud.target import Cloud


@torch.inference_mode()
def predict(
    model: nn.Module,
    audio_path: Path,
    midi_path: Path | None,
    emotion: np.ndarray | tuple[float, ...],
    offset: float = 0.0,
    start: float = 0.0,
) -> Cloud:
    """Return the model's cloud for the segment that begins `start` seconds into the audio.

    emotion: 3 or 64 numbers, NaN where not given. midi_path: None stands for no notes. offset: MIDI time is
    audio time less this, in seconds. Raises UserError for files that don't decode.
    """
    wave = audio.load(audio_path, start, space.SECONDS)
    if not len(wave):
        raise UserError(f"{audio_path}: --start {start}: past its end")
    log_mel = space.log_mel(wave)
    notes = np.zeros(len(midi.FEATURE_NAMES), np.float32)
    if midi_path is not None:
        notes = midi.features(midi.read(midi_path), start - offset, space.SECONDS)
    device = next(model.parameters()).device
    inputs = (torch.from_numpy(array)[None].to(device) for array in (log_mel, to_64d(emotion), notes))
    positions, colors, properties = model(*inputs)[:3]
    return Cloud(positions[0].cpu().numpy(), torch.cat([colors, properties], -1)[0].cpu().numpy())

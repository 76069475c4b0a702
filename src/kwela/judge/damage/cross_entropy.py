"""Measure how well a tuned MusicGen predicts real music that it was not tuned on, beside its own base.

Cross-entropy in nats a code, teacher-forced over the middle 10 s of a clip. The model gets no prompt (the
null condition of classifier-free guidance), so that no wording matters. The codes are those of the model's
own frozen codec.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from kwela.judge.shared import clips
from kwela.musicgen import base_model, model, tuned_model
from kwela.musicgen.delay import IGNORED, delay
from kwela.terminal import with_progress_bar

QUICK = 20  # clips with --quick


class CrossEntropies(NamedTuple):
    """Cross-entropy of each clip, (n,) nats a code. uniform: that of a guess among all codes."""

    base: np.ndarray
    tuned: np.ndarray
    uniform: float


@torch.inference_mode()
def measure(checkpoint: Path, paths: Sequence[Path], tiny: Path) -> CrossEntropies:
    """Return the cross-entropies of a checkpoint's model, and of its base, on each of `paths`.

    tiny: where the stand-in base is. Raises UserError as `tuned_model.load_checkpoint` does.
    """
    tuned, folder, state = tuned_model.load_checkpoint(checkpoint, tiny)
    models = (model.build(state["config"]["model"], tiny).eval(), tuned.eval())
    shape, codec = base_model.codec_shape(folder), base_model.load(folder).audio_encoder
    config: Any = tuned.decoder.config
    width = getattr(tuned.enc_to_dec_proj, "in_features", config.hidden_size)  # of the text encoder's states
    no_prompt = torch.zeros(1, 1, int(width)), torch.zeros(1, 1, dtype=torch.int64)
    nats = []
    for path in with_progress_bar(paths, "Scoring unseen clips"):
        wave = torch.from_numpy(clips.load_middle(path, shape.sample_rate))
        inputs, targets = delay(codec.encode(wave[None, None]).audio_codes[0], shape.codebook_size)
        nats.append([_per_code(scored(inputs, *no_prompt), targets) for scored in models])
    by_model = np.array(nats).reshape(-1, 2)
    return CrossEntropies(by_model[:, 0], by_model[:, 1], math.log(shape.codebook_size))


def _per_code(logits: torch.Tensor, targets: torch.Tensor) -> float:
    return float(F.cross_entropy(logits.flatten(0, 2).float(), targets.flatten(), ignore_index=IGNORED))

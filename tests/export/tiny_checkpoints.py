"""Small checkpoints, saved as the engine saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from kwela.engine import checkpoint
from kwela.music import tokens

CLOUD_SIZE = {"width": 16, "depth": 1}
MIDI_SIZE = {"layers": 2, "width": 32, "heads": 2, "window": 256, "cross_every": 2, "dropout": 0.1}


def settings(manifests: dict[str, str]) -> dict[str, Any]:
    """What a checkpoint's config holds beside the model's settings, in short."""
    return {
        "seed": 42,
        "data": {"batch_size": 8, **manifests},
        "training": {"grad_accum_steps": 1, "early_stopping": {"monitor": "val_loss"}},
    }


def meta(data_hash: str) -> dict[str, Any]:
    facts = {"started": "2025-01-01", "resumes": []}
    return {
        "data_hash": data_hash,
        "global_batch": 8,
        "val": {},
        "window": [],
        "seconds": 1.0,
        "facts": facts,
    }


def save(path: Path, family: str, size: dict[str, Any], model: nn.Module, **changes: Any) -> Path:
    kind = "midi" if family == "midi_generator" else family
    state = {
        "format": checkpoint.FORMAT,
        "family": family,
        "tokenizer_hash": tokens.tokenizer_hash() if kind == "midi" else "",
        "model": model.state_dict(),
        "ema": None,
        "optimizer": {},
        "scheduler": {},
        "scaler": {},
        "rng_per_rank": [],
        "progress": {"epoch": 3, "samples": 96, "step": 12},
        "stopping": {},
        "config": {
            "model": size,
            **settings({f"{side}_manifest": f"gone/{kind}_{side}.jsonl" for side in ("train", "val")}),
        },
        "extra": {},
        "meta": meta("d" * 64),
    }
    checkpoint.save(state | changes, path)
    return path


def sixteen_bars() -> list[int]:
    """A song of sixteen bars with four notes each, no two bars alike."""
    ids = [tokens.BOS]
    for bar in range(16):
        ids.append(tokens.BAR)
        for beat in range(4):
            ids += [tokens.BEAT + beat, 48 + (5 * bar + 7 * beat) % 36, 128 + 16 + bar % 8, 223 + beat % 2]
    return [*ids, tokens.EOS]

"""A whole checkpoint's state, made by hand."""

from __future__ import annotations

from typing import Any

import torch

from kwela.engine import checkpoint


def state(step: int = 3, size: int = 1000) -> dict[str, Any]:
    return {
        "format": checkpoint.FORMAT,
        "family": "toy",
        "tokenizer_hash": "tokens",
        "model": {"w": torch.randn(size), "half": torch.randn(5).bfloat16()},
        "ema": None,
        "optimizer": {"state": {}, "param_groups": []},
        "scheduler": {"step": step, "total": 100},
        "scaler": {},
        "rng_per_rank": [1],
        "progress": {"epoch": 1, "samples": 0, "step": step},
        "stopping": {},
        "config": {
            "seed": 42,
            "data": {"train_manifest": "toy_train", "val_manifest": "toy_val", "batch_size": 8},
            "model": {},
            "training": {"grad_accum_steps": 1, "early_stopping": {"monitor": "val_loss"}},
        },
        "extra": {},
        "meta": {
            "data_hash": "data",
            "global_batch": 8,
            "val": {"val_loss": 0.5},
            "window": [],
            "seconds": 1.0,
            "facts": {"started": "2025-01-01", "resumes": []},
        },
    }

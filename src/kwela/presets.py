"""The presets of each family: settings laid over a config, for a machine or a purpose."""

from __future__ import annotations

from typing import Any

# `full` is the shipped configuration. `demo` is tuned for two CPU cores and a few minutes; `tiny` for tests.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "spectocloud": {
        "full": {},
        "demo": {
            "training": {"epochs": 10, "min_epochs": 10, "amp": False, "save_every": 5},
            "data": {"batch_size": 8, "num_workers": 0},
            "model": {"width": 32},
            "augment": {"time_mask": 2, "freq_mask": 3},
            "optim": {"lr": 5e-3},
            "scheduler": {"warmup_steps": 20, "min_lr_ratio": 0.02},
        },
        "tiny": {
            "training": {"epochs": 2, "min_epochs": 0, "amp": False, "save_every": 1},
            "data": {"batch_size": 4, "num_workers": 0},
            "model": {"width": 8, "depth": 1},
        },
    },
    "midi": {
        "full": {},
        "demo": {
            "training": {"epochs": 7, "min_epochs": 7, "amp_dtype": "bfloat16", "save_every": 7},
            "data": {"batch_size": 8, "num_workers": 0},
            "model": {"layers": 6, "width": 256, "heads": 4, "window": 512, "dropout": 0.0},
            "optim": {"lr": 2e-3, "weight_decay": 0.1},
            "scheduler": {"warmup_steps": 20, "min_lr_ratio": 0.05},
        },
        "tiny": {
            "training": {"epochs": 2, "min_epochs": 0, "amp": False, "save_every": 1},
            "data": {"batch_size": 2, "num_workers": 0},
            "model": {"layers": 2, "width": 32, "heads": 2, "window": 128},
        },
    },
    "musicgen": {
        "full": {},
        "tiny": {
            "training": {"amp": False, "grad_accum_steps": 1},
            "data": {"batch_size": 8, "num_workers": 0, "seconds": 4.0},
            "model": {"base": "tiny", "tuning": "full"},
            "optim": {"lr": 3e-3},
            "scheduler": {"warmup_steps": 20},
        },
    },
}

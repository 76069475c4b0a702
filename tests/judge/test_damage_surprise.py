"""Cross-entropy on unseen clips: none is added by tuning that changed nothing, and a broken model is
found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_music
import pytest
import torch

from kwela.engine import checkpoint
from kwela.errors import UserError
from kwela.judge.damage import cross_entropy
from kwela.judge.damage import judge as damage
from kwela.judge.damage import page as damage_card
from kwela.judge.shared import clips
from kwela.judge.shared.scorecard import Scorecard
from kwela.musicgen import base_model, model, tiny

FULL = {"base": "tiny", "tuning": "full", "rank": 4, "alpha": 8.0, "dropout": 0.0}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return clips.find_audio_files(
        made_music.folder(tmp_path_factory.mktemp("unseen"), ("fiddle", "chorale"), 6, 1)
    )


def tuned(stand_in: Path, folder: Path, noise: float) -> Path:
    """A checkpoint whose weights are `noise` away from the base's."""
    folder_of_base = tiny.build(stand_in)
    torch.manual_seed(0)
    weights = {
        name: w + noise * torch.randn_like(w) for name, w in model.build(FULL, stand_in).state_dict().items()
    }
    assert any("lm_heads" in name for name in weights)
    state: dict[str, Any] = {"format": checkpoint.FORMAT, "family": "musicgen", "model": weights, "ema": None}
    state |= {
        "tokenizer_hash": base_model.fingerprint(folder_of_base),
        "optimizer": {},
        "scheduler": {},
        "scaler": {},
    }
    state |= {
        "extra": {},
        "rng_per_rank": [],
        "stopping": {},
        "progress": {"epoch": 1, "samples": 8, "step": 1},
    }
    data = {"batch_size": 8, "train_manifest": "gone", "val_manifest": "gone"}
    training = {"grad_accum_steps": 1, "early_stopping": {"monitor": "val_loss"}}
    state["config"] = {"model": FULL, "seed": 42, "data": data, "training": training}
    facts: dict[str, Any] = {"started": "2025-01-01", "resumes": []}
    state["meta"] = {
        "data_hash": "d",
        "global_batch": 8,
        "val": {},
        "window": [],
        "seconds": 1.0,
        "facts": facts,
    }
    folder.mkdir()
    checkpoint.save(state, folder / "best_model.pt")
    return folder / "best_model.pt"


def test_an_unchanged_model_is_as_surprised_as_its_base_and_a_broken_one_more(
    stand_in: Path, unseen: list[Path], tmp_path: Path
) -> None:
    verdicts = {}
    for noise in (0.0, 3.0):
        found = cross_entropy.measure(tuned(stand_in, tmp_path / str(noise), noise), unseen, stand_in)
        assert found.base.shape == found.tuned.shape == (6,) and (found.tuned == found.base).all() == (
            noise == 0
        )
        card = Scorecard("damage")
        damage_card.add_cross_entropy(card, found)
        verdicts[noise] = card.verdicts["cross_entropy"]
        assert [row.label for row in card.sections["cross_entropy"].rows][:3] == [
            "base",
            "tuned",
            "tuned - base",
        ]
    assert verdicts == {0.0: "not worse", 3.0: "worse"}


def test_a_model_without_unseen_clips_is_bad_usage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--unseen"):
        damage.judge(tmp_path, tmp_path, model=tmp_path / "best_model.pt", out=tmp_path)

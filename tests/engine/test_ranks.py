"""Two ranks are one run: the same gradients, one stop, and a checkpoint that any number of ranks resumes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import TRAINEE, rows, start, status
from trainee import config, dump_gradients, fit

from kwela.engine import checkpoint, optim, resume
from kwela.errors import UserError

SETTINGS = (
    "training.epochs=2",
    "training.min_epochs=0",
    "training.amp=false",
    "training.save_every_steps=1",
    "training.grad_accum_steps=2",
    "model.dropout=0",
    "scheduler.warmup_steps=0",
)
STEPS_AN_EPOCH = 4  # 16 items a step; the last step of an epoch has 13 of them, the last rank 5 of those


def torchrun(out: Path, *flags: str, settings: tuple[str, ...] = ()) -> subprocess.Popen:
    options = [part for setting in (*SETTINGS, "data.batch_size=4", *settings) for part in ("--set", setting)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.Popen(
        [*command, str(TRAINEE), str(out), *options, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A finished run of two ranks, with the gradients of its steps."""
    folder = tmp_path_factory.mktemp("pair")
    run = torchrun(folder / "out", "--dump-gradients", str(folder / "gradients.pt"))
    said = run.communicate(timeout=180)[0]
    assert run.returncode == 0, said
    (folder / "said.txt").write_text(said)
    return folder


def test_gradients_of_two_ranks_are_those_of_one(pair, tmp_path, monkeypatch):
    """A rank of the last step sits out a micro-batch, and both sides meet the idle head that no loss
    reaches.
    """
    monkeypatch.setattr(optim, "rescale", optim.rescale)  # so that it is put back
    dump_gradients(tmp_path / "gradients.pt")
    fit(tmp_path / "out", *SETTINGS, "data.batch_size=8", quiet=True)
    two, one = torch.load(pair / "gradients.pt"), torch.load(tmp_path / "gradients.pt")
    assert len(one) == len(two) == 2 * STEPS_AN_EPOCH
    for a, b in zip(one, two, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x - y).abs().max() <= 1e-6
    assert max(x.abs().max() for x in one[0]) > 1e-2  # the control: they are not all nearly nothing
    assert any((x - y).abs().max() > 1e-6 for x, y in zip(one[0], two[1], strict=True))


def test_figures_do_not_depend_on_the_ranks(pair, tmp_path):
    fit(tmp_path / "out", *SETTINGS, "data.batch_size=8", quiet=True)
    for a, b in zip(rows(tmp_path / "out"), rows(pair / "out"), strict=True):
        assert (
            a == pytest.approx(b, rel=1e-5)
            if "baselines" not in a
            else a["val_loss"] == pytest.approx(b["val_loss"], rel=1e-5)
        )


def test_only_the_first_rank_talks_and_torchruns_timeout_is_mentioned(pair):
    said = (pair / "said.txt").read_text()
    assert said.count("Training complete!") == 1
    assert "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" in said
    assert "Warning" not in said


def test_another_number_of_ranks_keeps_the_global_batch(pair, tmp_path, capsys):
    """16 a step on two ranks of 4 x 2: one rank makes it 4 x 4."""
    shutil.copytree(pair / "out", tmp_path / "out")
    fit(tmp_path / "out", *SETTINGS, "data.batch_size=4", "training.epochs=3")
    assert "at step 8" in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "out" / "last.pt")["progress"]["step"] == 12
    assert json.loads((tmp_path / "out" / "run.json").read_text())["batch"]["grad_accum_steps"] == 4


@pytest.mark.parametrize(
    ("batch", "accumulated", "ranks", "expected"),
    [
        (4, 2, 2, 2),
        (4, 2, 1, 4),
        (4, 2, 4, 1),
        (8, 1, 1, 2),
        (2, 4, 2, 4),
        (16, 1, 1, 1),
        (4, 2, 3, None),
        (4, 2, 8, None),
    ],
)
def test_accumulation_makes_up_for_ranks_and_batch(batch, accumulated, ranks, expected):
    before = {"data": {"batch_size": 4}, "training": {"grad_accum_steps": 2}}
    state = {"meta": {"global_batch": 16}, "config": before}
    settings = config([f"data.batch_size={batch}", f"training.grad_accum_steps={accumulated}"])
    if expected is None:
        with pytest.raises(UserError, match=f"global batch of 16 does not divide by {ranks} ranks"):
            resume.accumulation(settings, state, ranks)
    else:
        assert resume.accumulation(settings, state, ranks) == expected


def test_sigterm_to_torchrun_stops_all_ranks_with_a_checkpoint(tmp_path):
    out = tmp_path / "out"
    run = torchrun(
        out, "--slow", "0.05", settings=("training.epochs=50", "data.num_workers=1", "model.idle=false")
    )
    while not (out / "last.pt").exists():
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=60)[0]
    assert run.returncode != 0
    assert "Warning" not in said  # DDP's, of a model without idle parameters
    stopped = status(out)
    assert (stopped["state"], stopped["exit_status"]) == ("interrupted", 75), said
    assert checkpoint.load(out / "last.pt")["progress"]["step"] == stopped["step"] > 0
    assert len(checkpoint.load(out / "last.pt")["rng_per_rank"]) == 2


def test_a_signal_to_one_rank_stops_both(tmp_path):
    out = tmp_path / "out"
    both = start(out, 0, 2, "fp32", "--slow", "0.05")
    while not (out / "last.pt").exists():
        assert both[0].poll() is None, both[0].communicate()
        time.sleep(0.02)
    both[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [75, 75], said
    assert status(out)["why"].startswith("stopped by a signal to another rank at step ")

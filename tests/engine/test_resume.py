"""What a run goes on from, what it refuses, and that what it goes on to is the run it would have been."""

import json
import os
import pickle
import shutil

import pytest
import torch
from runs import differences, rows, status
from torch import nn
from trainee import ToyTask, fit, half_precision_on_cpu

from kwela.engine import checkpoint, learner, loop, order, precision
from kwela.errors import Interrupted, UserError

SETTINGS = (
    "training.epochs=3",
    "training.min_epochs=0",
    "training.amp=false",
    "training.log_every=3",
    "training.save_every=1",
    "training.save_every_steps=5",
    "training.ema.enabled=true",
    "training.grad_accum_steps=2",
    "scheduler.warmup_steps=4",
    "optim.lr=0.003",
    "data.batch_size=4",
)
CALLS = 2 * 8  # calls of `losses` for the 8 steps of an epoch; the last micro-batches of 61 rows are uneven
VAL_CALLS = 6


@pytest.fixture(scope="module", params=["float32", "float16"])
def runs(request, tmp_path_factory):
    """An uninterrupted run, and a folder of the same run stopped in the middle of its second epoch."""
    folder = tmp_path_factory.mktemp("runs")
    choose = precision.choose
    if request.param == "float16":
        half_precision_on_cpu()
    fit(folder / "whole", *SETTINGS, quiet=True)
    with pytest.raises(Interrupted):
        fit(folder / "part", *SETTINGS, quiet=True, switches={"signal_at": (CALLS + VAL_CALLS + 7,)})
    yield folder
    precision.choose = choose


def resumed(runs, tmp_path, *settings, **more):
    shutil.copytree(runs / "part", tmp_path / "part")
    fit(tmp_path / "part", *SETTINGS, *settings, **more)
    return tmp_path / "part"


def test_a_resumed_run_ends_in_the_same_bits(runs, tmp_path, capsys):
    assert differences(runs / "whole", resumed(runs, tmp_path)) == []
    assert f"Resuming from {tmp_path / 'part'}/last.pt at step 12" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["model", "ema", "optimizer", "scaler", "progress", "stopping", "rng"])
def test_without_any_one_part_of_the_state_it_would_not(runs, tmp_path, monkeypatch, part):
    whole_learner, whole_run = learner.Learner.load, loop.Run._restore
    if part in ("model", "ema", "optimizer", "scaler"):
        if part == "scaler" and precision.choose.__module__ != "trainee":
            pytest.skip("no scaler in float32")
        monkeypatch.setattr(
            learner.Learner, "load", lambda self, s: whole_learner(self, s | {part: self.state()[part]})
        )
    elif part == "progress":
        lost = {"progress": {"epoch": 1, "step": 12, "samples": 0}}
        monkeypatch.setattr(loop.Run, "_restore", lambda self, s: whole_run(self, s | lost))
    elif part == "stopping":
        monkeypatch.setattr(loop.Run, "_restore", lambda self, s: whole_run(self, s | {"stopping": {}}))
    else:
        monkeypatch.setattr(order, "step_seed", lambda seed, step, rank: 1)
    assert differences(runs / "whole", resumed(runs, tmp_path, quiet=True)) != []


@pytest.mark.parametrize(
    "call", [1, CALLS, CALLS + 2, CALLS + VAL_CALLS, CALLS + VAL_CALLS + 1, 3 * (CALLS + VAL_CALLS)]
)
def test_stopping_anywhere_even_in_validation_changes_nothing(runs, tmp_path, call):
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="SIGTERM"):
        fit(out, *SETTINGS, quiet=True, switches={"signal_at": (call,)})
    stopped = status(out)
    assert stopped["state"] == "interrupted" and stopped["exit_status"] == 75
    assert checkpoint.load(out / "last.pt")["progress"]["step"] == stopped["step"]
    fit(out, *SETTINGS, quiet=True)
    assert differences(runs / "whole", out) == []


def test_a_finished_run_says_so_and_changes_nothing(runs, tmp_path, capsys):
    shutil.copytree(runs / "whole", tmp_path / "whole")
    outcome = fit(tmp_path / "whole", *SETTINGS)
    assert capsys.readouterr().out == "Already finished at step 24\n"
    assert outcome.step == 24 and outcome.val["val_loss"] > 0
    assert differences(runs / "whole", tmp_path / "whole") == []


def test_metrics_are_cut_back_to_the_checkpoint(runs, tmp_path):
    part = tmp_path / "part"
    shutil.copytree(runs / "part", part)
    with (part / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "epoch": 2, "split": "train", "loss": 0}\n{"step": 14, "ep')
    fit(part, *SETTINGS, quiet=True)
    assert rows(part) == rows(runs / "whole")


def test_a_damaged_last_checkpoint_is_skipped_for_an_older_one(runs, tmp_path, capsys):
    part = tmp_path / "part"
    shutil.copytree(runs / "part", part)
    os.truncate(part / "last.pt", 999)
    fit(part, *SETTINGS)
    said = capsys.readouterr().out
    assert f"Skipping {part}/last.pt: damaged" in said
    assert "at step 8" in said  # the end of the first epoch
    assert differences(runs / "whole", part) == []


def test_a_named_checkpoint_is_taken_or_refused(runs, tmp_path, monkeypatch):
    part, elsewhere = runs / "part", tmp_path / "elsewhere"
    fit(elsewhere, *SETTINGS, quiet=True, resume=part / "last.pt")
    assert checkpoint.load(elsewhere / "last.pt")["progress"]["step"] == 24
    bad = tmp_path / "bad.pt"
    bad.write_bytes((part / "last.pt").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"bad\.pt: damaged"):
        fit(tmp_path / "out", *SETTINGS, resume=bad)
    bad.write_bytes(pickle.dumps(print))
    with pytest.raises(UserError, match=r"bad\.pt: damaged, or not"):
        fit(tmp_path / "out", *SETTINGS, resume=bad)
    with pytest.raises(UserError, match="tokenizer tokens, here others"):
        fit(tmp_path / "out", *SETTINGS, resume=part / "last.pt", tokenizer_hash="others")
    monkeypatch.setattr("trainee.ToyTask.name", "tay")
    with pytest.raises(UserError, match="family toy, here tay"):
        fit(tmp_path / "out", *SETTINGS, resume=part / "last.pt")
    assert not (tmp_path / "out").exists()


def test_going_back_to_an_older_checkpoint_is_remembered(runs, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(runs / "whole", whole)
    with pytest.raises(Interrupted):  # at its first step, before the first save of its own
        fit(
            whole, *SETTINGS, quiet=True, resume=whole / "checkpoint_epoch_1.pt", switches={"signal_at": (1,)}
        )
    assert checkpoint.load(whole / "last.pt")["progress"]["step"] == 9


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data_hash": "new"}, "data data, here new"),
        ({"tokenizer_hash": "new"}, "tokenizer tokens, here new"),
        ("seed=1", "seed 42, here 1"),
        ("model.width=16", "model.width 32, here 16"),
    ],
)
def test_another_run_keeps_its_folder_under_another_name(runs, tmp_path, capsys, changed, said):
    settings, more = ((changed,), {}) if isinstance(changed, str) else ((), changed)
    (tmp_path / "part.1").mkdir()
    part = resumed(runs, tmp_path, *settings, "training.epochs=1", **more)
    out = capsys.readouterr().out
    assert said in out and f"what was there is now {tmp_path}/part.2" in out
    assert checkpoint.load(tmp_path / "part.2" / "last.pt")["progress"]["step"] == 12
    assert checkpoint.load(part / "last.pt")["progress"]["step"] == 8


def test_weights_of_another_version_of_the_model_are_not_taken(runs, tmp_path, monkeypatch, capsys):
    build = ToyTask.model
    monkeypatch.setattr("trainee.ToyTask.model", lambda self: nn.Sequential(build(self)))
    with pytest.raises(
        UserError, match=r"last\.pt: can't resume from it: it has weights .*body.* by another version"
    ):
        fit(tmp_path / "out", *SETTINGS, resume=runs / "part" / "last.pt")
    resumed(runs, tmp_path, "training.epochs=1")
    out = capsys.readouterr().out
    assert "made by another version of the model" in out and f"what was there is now {tmp_path}/part.1" in out
    assert checkpoint.load(tmp_path / "part.1" / "last.pt")["progress"]["step"] == 12


def test_starting_afresh_keeps_the_old_folder(runs, tmp_path):
    curves = tmp_path / "runs" / "toy"
    curves.mkdir(parents=True)
    (curves / "old").touch()
    resumed(runs, tmp_path, "training.epochs=1", quiet=True, resume=None, runs_dir=curves)
    assert differences(runs / "part", tmp_path / "part.1") == []
    assert (tmp_path / "runs" / "toy.1" / "old").is_file()
    assert [path.name.startswith("events") for path in curves.iterdir()] == [True]


def test_a_run_that_can_not_start_sets_nothing_aside(runs, tmp_path):
    with pytest.raises(UserError, match="no rows"):
        resumed(runs, tmp_path, data_hash="new", switches={"rows": 0})
    assert differences(runs / "part", tmp_path / "part") == []


def test_the_folder_of_another_family_is_left_alone(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("trainee.ToyTask.name", "tay")
    with pytest.raises(UserError, match="a checkpoint of toy, and this is tay"):
        resumed(runs, tmp_path)
    assert not (tmp_path / "part.1").exists()


def test_rates_epochs_workers_and_the_shape_of_a_batch_may_change(runs, tmp_path):
    changes = (
        "optim.lr=0.001",
        "training.epochs=4",
        "data.num_workers=1",
        "data.batch_size=2",
        "training.grad_accum_steps=4",
    )
    part = resumed(runs, tmp_path, *changes, quiet=True)
    assert checkpoint.load(part / "last.pt")["progress"] == {"epoch": 4, "samples": 0, "step": 32}
    assert checkpoint.load(part / "last.pt")["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-4)
    resume = json.loads((part / "run.json").read_text())["resumes"][0]
    assert resume["step"] == 12 and (resume["batch_size"], resume["grad_accum_steps"]) == (2, 4)
    assert resume["changed"]["optim.lr"] == [0.003, 0.001]


def test_whatever_changed_is_said(runs, tmp_path, capsys):
    part = resumed(runs, tmp_path, "optim.lr=0.001", "optim.weight_decay=0.5")
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        f"Resuming from {part}/last.pt at step 12",
        "Changed since: optim.lr 0.003 -> 0.001, optim.weight_decay 0.05 -> 0.5",
    ]
    shutil.rmtree(part)
    resumed(runs, tmp_path)
    assert "Changed since" not in capsys.readouterr().out  # the control


def test_the_best_of_another_figure_is_forgotten(runs, tmp_path):
    monitor = "training.early_stopping.monitor=val_accuracy"
    part = resumed(runs, tmp_path, monitor, quiet=True)
    after = {
        row["step"]: row["val_accuracy"] for row in rows(part) if row["split"] == "val" and row["step"] > 12
    }
    assert checkpoint.load(part / "last.pt")["stopping"]["best"] == max(after.values())
    assert checkpoint.load(part / "best.pt")["progress"]["step"] in after


@pytest.mark.parametrize(
    ("part", "odd"),
    [
        ("stopping", {"luck": 7}),
        ("optimizer", {"state": {}, "param_groups": [3]}),
        ("progress", {"epoch": 0, "samples": 62, "step": 8}),
        ("meta", {"window": [[1.0]]}),
        ("meta", {"val": {"val_loss": "low"}}),
    ],
)
def test_a_state_that_does_not_fit_is_one_line(runs, tmp_path, part, odd):
    path = tmp_path / "odd.pt"
    state = checkpoint.load(runs / "part" / "last.pt")
    checkpoint.save(state | {part: state[part] | odd if part == "meta" else odd}, path)
    with pytest.raises(UserError, match=r"odd\.pt: can't resume from it: "):
        fit(tmp_path / "out", *SETTINGS, resume=path)
    assert not (tmp_path / "out").exists()


def test_a_foreign_checkpoint_in_the_folder_is_skipped(runs, tmp_path, capsys):
    shutil.copytree(runs / "part", tmp_path / "part")
    checkpoint.save({"format": checkpoint.FORMAT}, tmp_path / "part" / "last.pt")
    fit(tmp_path / "part", *SETTINGS)
    said = capsys.readouterr().out
    assert f"Skipping {tmp_path}/part/last.pt: not a checkpoint that kwela wrote: family is missing" in said
    assert "checkpoint_epoch_1.pt at step 8" in said or "best.pt at step 8" in said


def test_a_changed_global_batch_is_refused(runs, tmp_path):
    with pytest.raises(
        UserError, match=r"data.batch_size x training.grad_accum_steps is 8 x 2 and was 4 x 2"
    ):
        resumed(runs, tmp_path, "data.batch_size=8")


def test_more_epochs_go_on_from_a_finished_run(runs, tmp_path, capsys):
    shutil.copytree(runs / "whole", tmp_path / "whole")
    assert fit(tmp_path / "whole", *SETTINGS, "training.epochs=4").step == 32
    assert "Resuming from" in capsys.readouterr().out


def test_resume_from_is_where_an_empty_folder_starts_and_no_more(runs, tmp_path, capsys):
    start = f"training.resume_from={runs / 'part' / 'last.pt'}"
    with pytest.raises(Interrupted):
        fit(tmp_path / "out", *SETTINGS, start, switches={"signal_at": (3,)})
    fit(tmp_path / "out", *SETTINGS, start)
    said = capsys.readouterr().out
    assert f"Resuming from {runs / 'part' / 'last.pt'} at step 12" in said
    passed_over = (
        f"training.resume_from is passed over: {tmp_path / 'out' / 'last.pt'} has step 14 of this run"
    )
    assert said.count("is passed over") == 1 and passed_over in said
    assert f"Resuming from {tmp_path / 'out' / 'last.pt'} at step 14" in said


def test_what_the_caller_keeps_travels_in_the_checkpoint(tmp_path):
    got = []
    with pytest.raises(Interrupted):
        fit(
            tmp_path / "out",
            *SETTINGS,
            quiet=True,
            extra=lambda: {"dollars": 12.5},
            switches={"signal_at": (3,)},
        )
    fit(tmp_path / "out", *SETTINGS, quiet=True, on_resume=got.append)
    assert got == [{"dollars": 12.5}]
    assert checkpoint.load(tmp_path / "out" / "last.pt")["extra"] == {"dollars": 12.5}


def test_a_checkpoint_has_the_contracts_keys_and_nothing_volatile_outside_their_place(runs):
    state = checkpoint.load(runs / "whole" / "last.pt")
    keys = "format family tokenizer_hash model ema optimizer scheduler scaler rng_per_rank progress stopping"
    assert " ".join(sorted(state)) == " ".join(sorted(f"{keys} config extra meta".split()))
    assert set(state["progress"]) == {"epoch", "samples", "step"}
    assert len(state["rng_per_rank"]) == 1
    assert torch.is_tensor(state["model"]["head.weight"])


def test_weights_alone_are_nothing_to_resume_from(tmp_path):
    out = tmp_path / "out"
    fit(out, *SETTINGS, quiet=True)
    alone = out / "weights.pt"
    checkpoint.save(checkpoint.load(out / "last.pt") | {"optimizer": {}}, alone)
    with pytest.raises(UserError, match=r"weights\.pt: can't resume from it: it holds weights alone"):
        fit(out, *SETTINGS, quiet=True, resume=alone)
    (out / "last.pt").write_bytes(b"")
    assert checkpoint.latest_valid(out).name != "weights.pt"

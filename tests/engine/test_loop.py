"""What the loop does with an epoch, and how it ends when something is wrong."""

import errno
import json
import math
import os
import resource
import shutil
import signal
import time

import numpy as np
import pytest
import torch
import trainee
from runs import differences, rows, status
from trainee import ROWS, ToyTask, config, fit

import validation
from kwela.config import EarlyStopping
from kwela.engine import checkpoint, learner, loop, optim, order, precision, ranks
from kwela.engine.stopping import Stopping
from kwela.engine.task import Mean, Share
from kwela.errors import Interrupted, KwelaError, UserError

SHORT = (
    "training.epochs=2",
    "training.min_epochs=0",
    "training.amp=false",
    "training.log_every=3",
    "scheduler.warmup_steps=0",
)


def weights(out):
    return checkpoint.load(out / "last.pt")["model"]


def test_a_run_leaves_what_the_contract_names(tmp_path, capsys):
    out = tmp_path / "toy"
    outcome = fit(out, *SHORT, "training.save_every=2", runs_dir=tmp_path / "runs" / "toy")
    assert {p.name for p in out.iterdir()} == {
        "best.pt", "last.pt", "checkpoint_epoch_2.pt", "metrics.jsonl", "run.json", "status.json", "previews"
    }  # fmt: skip
    assert [p.name for p in (out / "previews").iterdir()] == ["epoch_2"]
    assert status(out) == {
        "state": "finished",
        "step": 16,
        "epoch": 2,
        "exit_status": 0,
        "why": "ran to its end",
    }
    run = json.loads((out / "run.json").read_text())
    assert {"config", "seed", "versions", "commit", "manifest_hash", "tokenizer_hash", "hardware", "wall_seconds",
            "device_seconds", "cost"} <= set(run)  # fmt: skip
    assert list((tmp_path / "runs" / "toy").glob("events.out.tfevents.*"))
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Epoch 1/2 | Step 3 | Loss: ") and " | LR: 2.77e-04 | first_loss " in said[0]
    assert " | Val Loss: " in said[2] and said[2].endswith("baselines: mean 0.5000")
    assert said[-3] == "Training complete!"
    assert (outcome.step, outcome.epoch, outcome.steps_per_epoch) == (16, 2, 8)
    assert outcome.best == pytest.approx(outcome.val["val_loss"]) and outcome.seconds_per_step > 0


def test_metrics_hold_the_families_names_as_means_over_a_window(tmp_path):
    fit(tmp_path, *SHORT, quiet=True)
    table = rows(tmp_path)
    assert [(row["step"], row["split"]) for row in table] == [
        (3, "train"), (6, "train"), (8, "val"), (9, "train"), (12, "train"), (15, "train"), (16, "val")
    ]  # fmt: skip
    assert {"loss", "first_loss", "surprise", "lr"} <= set(table[0])
    assert table[0]["drums_loss"] is None  # over nothing
    assert {"val_loss", "val_first_loss", "val_surprise", "baselines"} <= set(table[2])
    assert table[2]["val_surprise"] == pytest.approx(math.exp(table[2]["val_loss"]))


def test_validations_between_epochs_stand_beside_the_loss_before_the_first_step(tmp_path):
    settings = [*SHORT, "training.eval_every_steps=4", "training.evaluate_first=true"]
    fit(tmp_path, *settings, quiet=True, log=tmp_path / "logs" / "training.log")
    val = [row for row in rows(tmp_path) if row["split"] == "val"]
    assert [row["step"] for row in val] == [0, 4, 8, 12, 16]  # 8 and 16 end an epoch: one validation each
    assert {row["baselines"]["base_loss"] for row in val[1:]} == {val[0]["val_loss"]}
    said = (tmp_path / "logs" / "training.log").read_text().splitlines()
    assert sum(" | Val Loss: " in line for line in said) == 5 and said[-3] == "Training complete!"


def test_the_best_weights_may_come_from_the_middle_of_an_epoch(tmp_path):
    seen = []

    def look(path):
        seen.append(checkpoint.load(path)["progress"]["step"])
        return path

    fit(tmp_path, *SHORT, "training.eval_every_steps=4", quiet=True, on_best=look)
    losses = {row["step"]: row["val_loss"] for row in rows(tmp_path) if row["split"] == "val"}
    firsts = [step for step in losses if losses[step] == min(loss for s, loss in losses.items() if s <= step)]
    assert seen == [*firsts, firsts[-1]] and 4 in seen  # the last time as the run ends


def test_validation_is_the_mean_over_all_held_out_items_whatever_the_batch(tmp_path):
    out = fit(tmp_path / "a", *SHORT, quiet=True)
    model = trainee.ToyNet(32, 0.1).eval()
    model.load_state_dict(weights(tmp_path / "a"))
    task = ToyTask(config([]))
    batch = task.collate(validation.items(task, 42))
    with torch.no_grad():
        loss = task.losses(model, batch)["loss"]
    assert out.val["val_loss"] == pytest.approx((loss.total / loss.weight).item(), rel=1e-6)


def test_worker_processes_change_nothing(tmp_path):
    for workers in (0, 2):
        fit(tmp_path / str(workers), *SHORT, f"data.num_workers={workers}", quiet=True)
    a, b = weights(tmp_path / "0"), weights(tmp_path / "2")
    assert all(torch.equal(a[name], b[name]) for name in a)


def gradients(monkeypatch, out, *settings):
    seen, whole = [], optim.rescale

    def rescale(grads, factor, largest):
        norm = whole(grads, factor, 1e9)
        seen.append([grad.clone() for grad in grads])
        return norm

    monkeypatch.setattr(optim, "rescale", rescale)
    fit(out, *SHORT, "model.dropout=0", "training.max_steps=4", *settings, quiet=True)
    monkeypatch.undo()
    return seen


def test_accumulated_gradients_are_those_of_the_whole_batch_even_at_an_uneven_end(tmp_path, monkeypatch):
    """61 rows at 16 a step: the last step has 13, in micro-batches of 5 5 3."""
    whole = gradients(monkeypatch, tmp_path / "a", "data.batch_size=16", "optim.lr=1e-9")
    parts = gradients(
        monkeypatch, tmp_path / "b", "data.batch_size=4", "training.grad_accum_steps=4", "optim.lr=1e-9"
    )
    assert len(whole) == 4
    for a, b in zip(whole, parts, strict=True):
        for x, y in zip(a, b, strict=True):
            assert (x - y).abs().max() <= 1e-6 * max(1, x.abs().max())


def test_a_mean_of_means_would_not_pass_that(tmp_path, monkeypatch):
    """The control: weigh each micro-batch alike, as averaging their losses would."""
    whole = gradients(monkeypatch, tmp_path / "a", "data.batch_size=16", "optim.lr=1e-9")
    losses = ToyTask.losses

    def mean(self, model, batch):
        parts = losses(self, model, batch)
        one = torch.ones(())
        return parts | {
            "loss": parts["loss"]._replace(total=parts["loss"].total / parts["loss"].weight, weight=one)
        }

    ToyTask.losses = mean
    try:
        parts = gradients(
            monkeypatch, tmp_path / "b", "data.batch_size=4", "training.grad_accum_steps=4", "optim.lr=1e-9"
        )
    finally:
        ToyTask.losses = losses
    assert any((x - y).abs().max() > 1e-4 for x, y in zip(whole[3], parts[3], strict=True))


def test_a_sum_too_large_for_float16_still_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "choose", lambda training, device: (torch.float16, None))
    losses = ToyTask.losses
    heavy = 2.0**24  # a batch of so many tokens: the gradients of their sum overflow float16

    def many(self, model, batch):
        parts = losses(self, model, batch)
        return {name: type(part)(part.total * heavy, part.weight * heavy) for name, part in parts.items()}

    monkeypatch.setattr(ToyTask, "losses", many)
    fit(tmp_path / "a", *SHORT, quiet=True)
    monkeypatch.setattr(learner.Learner, "_unit", lambda self, found: torch.ones(()))
    fit(tmp_path / "b", *SHORT, quiet=True)
    taken = [
        checkpoint.load(tmp_path / run / "last.pt")["optimizer"]["state"][0]["step"].item() for run in "ab"
    ]
    assert taken[0] >= 13 and taken[1] == 0  # of 16 steps; the others overflowed and were skipped


def test_early_stopping_waits_for_patience_and_for_min_epochs(tmp_path, capsys):
    stuck = (
        "optim.lr=1e-12",
        "training.epochs=20",
        "training.amp=false",
        "training.early_stopping.patience=2",
    )
    assert (
        fit(tmp_path / "a", *stuck, "training.min_epochs=0").epoch == 3
    )  # the first sets the mark, two wait
    assert status(tmp_path / "a")["why"].startswith("early stopping: val_loss")
    assert fit(tmp_path / "b", *stuck, "training.min_epochs=5").epoch == 5
    assert (
        fit(tmp_path / "c", *stuck, "training.min_epochs=0", "training.early_stopping.enabled=false").epoch
        == 20
    )
    capsys.readouterr()
    assert fit(tmp_path / "a", *stuck, "training.min_epochs=0").epoch == 3
    assert "Already finished at step 24" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("monitor", "figures"), [("val_accuracy", (0.2, 0.6, 0.4)), ("val_surprise", (5.0, 3.0, 4.0))]
)
def test_the_best_checkpoint_is_that_of_the_best_monitored_figure(tmp_path, monkeypatch, monitor, figures):
    script = iter(figures)
    monkeypatch.setattr(loop.Run, "_evaluate", lambda self, feed: {"val_loss": 1.0, monitor: next(script)})
    outcome = fit(
        tmp_path, *SHORT, "training.epochs=3", f"training.early_stopping.monitor={monitor}", quiet=True
    )
    assert checkpoint.load(tmp_path / "best.pt")["progress"]["step"] == 16
    assert (outcome.monitor, outcome.best, outcome.best_step, outcome.best_epoch) == (
        monitor,
        figures[1],
        16,
        2,
    )
    assert (outcome.step, outcome.epoch) == (24, 3)


def test_patience_waits_for_an_absolute_gain_either_way():
    early = EarlyStopping(min_delta=0.1)
    for gain, values in ((Mean.gain, (0.5, 0.45, 0.39, 0.6)), (Share.gain, (0.5, 0.55, 0.61, 0.4))):
        stopping = Stopping()
        better = [stopping.update(value, 1, step, early, gain) for step, value in enumerate(values, 1)]
        assert better == [True, True, True, False]
        assert (stopping.reference, stopping.waited, stopping.best_step) == (values[2], 1, 3)


def test_a_monitor_that_the_family_lacks_is_named(tmp_path):
    with pytest.raises(UserError, match=r"monitor: no figure val_los .there are val_loss, val_first_loss"):
        fit(tmp_path, *SHORT, "training.early_stopping.monitor=val_los", quiet=True)


def test_max_steps_ends_a_run_with_its_validation(tmp_path):
    outcome = fit(tmp_path, *SHORT, "training.max_steps=11", quiet=True)
    assert outcome.step == 11 and outcome.epoch == 1
    assert rows(tmp_path)[-1]["split"] == "val" and rows(tmp_path)[-1]["step"] == 11


def test_with_ema_the_average_is_what_is_judged(tmp_path):
    out = tmp_path / "out"
    val = fit(out, *SHORT, "training.ema.enabled=true", "training.ema.decay=0.99", quiet=True).val
    state = checkpoint.load(out / "best.pt")
    assert not torch.equal(state["model"]["head.weight"], state["ema"]["head.weight"])
    judged = {}
    for name in ("model", "ema"):
        model, task = trainee.ToyNet(32, 0.1).eval(), ToyTask(config([]))
        model.load_state_dict(state[name])
        batch = task.collate(validation.items(task, 42))
        with torch.no_grad():
            loss = task.losses(model, batch)["loss"]
        judged[name] = (loss.total / loss.weight).item()
    assert val["val_loss"] == pytest.approx(judged["ema"], rel=1e-6)
    assert val["val_loss"] != pytest.approx(judged["model"], rel=1e-6)


def test_deterministic_mode_holds_for_the_run_alone(tmp_path, monkeypatch):
    seen, losses = [], ToyTask.losses

    def look(self, model, batch):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return losses(self, model, batch)

    monkeypatch.setattr(ToyTask, "losses", look)
    fit(tmp_path, *SHORT, "deterministic=true", "training.epochs=1", quiet=True)
    assert all(seen) and not torch.are_deterministic_algorithms_enabled()


def test_float16_on_a_cpu_falls_back_and_says_so(tmp_path, capsys):
    fit(tmp_path, "training.epochs=1", "training.amp_dtype=float16")
    assert "training.amp_dtype float16 needs a GPU: training in " in capsys.readouterr().out
    assert status(tmp_path)["exit_status"] == 0


@pytest.mark.parametrize("scaled", [False, True])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint_before(
    tmp_path, monkeypatch, scaled
):
    if scaled:
        monkeypatch.setattr(precision, "choose", lambda training, device: (torch.float16, None))
    with pytest.raises(Interrupted):
        fit(tmp_path, *SHORT, quiet=True, switches={"signal_at": (2,)})
    good, row = (tmp_path / "last.pt").read_bytes(), order.permutation(42, 1, ROWS)[5 * 8 + 3]
    with pytest.raises(
        KwelaError,
        match=rf"the loss is not finite at step 6 \(epoch 1\), rows [\d ]*\b{row}\b.* of toy_train",
    ) as caught:
        fit(tmp_path, *SHORT, quiet=True, switches={"nan_row": row})
    assert caught.value.status == 1
    assert (tmp_path / "last.pt").read_bytes() == good
    assert status(tmp_path)["state"] == "failed" and "not finite" in status(tmp_path)["why"]
    assert fit(tmp_path, *SHORT, quiet=True).step == 16  # the row mended, the run goes on


def test_a_model_that_does_not_fit_in_memory_says_so(tmp_path, monkeypatch):
    def build(task):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("trainee.ToyTask.model", build)
    with pytest.raises(KwelaError, match="out of memory before the first step: choose a smaller model"):
        fit(tmp_path / "out", *SHORT, quiet=True)
    assert not (tmp_path / "out").exists()


def test_out_of_memory_names_the_two_keys_and_values_to_try(tmp_path):
    with pytest.raises(KwelaError) as caught:
        fit(tmp_path, *SHORT, "training.grad_accum_steps=3", quiet=True, switches={"memory_for": 4})
    assert caught.value.status == 1
    assert "set data.batch_size to 6 (now 8) and training.grad_accum_steps to 4 (now 3)" in str(caught.value)
    fit(
        tmp_path,
        *SHORT,
        "data.batch_size=4",
        "training.grad_accum_steps=6",
        quiet=True,
        switches={"memory_for": 4},
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_row_is_one_line_also_out_of_a_worker(tmp_path, workers):
    with pytest.raises(UserError) as caught:
        fit(tmp_path, *SHORT, f"data.num_workers={workers}", quiet=True, switches={"bad_row": 5})
    saved = f"; saved at step {status(tmp_path)['step']}: "
    assert str(caught.value).startswith(f"toy_train: row 5: bad on purpose{saved}")
    assert status(tmp_path)["exit_status"] == 2


def test_a_killed_worker_is_one_line(tmp_path):
    with pytest.raises(KwelaError, match="a data worker died at step"):
        fit(tmp_path, *SHORT, "data.num_workers=1", quiet=True, switches={"fatal_row": 5})


def test_no_rows_are_named(tmp_path):
    with pytest.raises(UserError, match="toy_train: no rows"):
        fit(tmp_path / "out", *SHORT, quiet=True, switches={"rows": 0})
    assert not (tmp_path / "out").exists()


def test_a_disk_that_fills_up_ends_the_run_and_leaves_the_checkpoint_before(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    preview = ToyTask.preview

    def fill(self, model, folder):  # after the first save
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))

    ToyTask.preview = fill
    try:
        with pytest.raises(
            KwelaError, match="not saved: File too large; what was there before stays"
        ) as caught:
            fit(tmp_path, *SHORT, "training.save_every=1", quiet=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        ToyTask.preview = preview
    assert caught.value.status == 1
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == 8
    assert not list(tmp_path.glob(".*.tmp"))
    assert status(tmp_path)["state"] == "failed"
    assert fit(tmp_path, *SHORT, quiet=True).step == 16


@pytest.mark.parametrize(("number", "exit_status"), [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 2)])
def test_a_disk_that_is_full_from_the_start_is_not_bad_usage(tmp_path, monkeypatch, number, exit_status):
    def refuse(self, out, board, purge_step):
        raise OSError(number, os.strerror(number), str(out / "metrics.jsonl"))

    monkeypatch.setattr("kwela.engine.journal.Journal.open", refuse)
    with pytest.raises(
        KwelaError, match=rf"metrics\.jsonl: can't write there: {os.strerror(number)}"
    ) as caught:
        fit(tmp_path, *SHORT, quiet=True)
    assert caught.value.status == exit_status


def test_a_preview_that_a_kill_cut_short_is_drawn_by_the_run_that_goes_on(tmp_path, monkeypatch):
    whole, cut, settings = tmp_path / "whole", tmp_path / "cut", (*SHORT, "training.save_every=1")
    fit(whole, *settings, quiet=True)
    draw, calls = ToyTask.preview, []

    def die(self, model, folder):
        draw(self, model, folder)
        calls.append(folder)
        if len(calls) in (1, 3):
            raise KeyboardInterrupt  # nothing of ours catches it

    monkeypatch.setattr(ToyTask, "preview", die)
    for epoch in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            fit(cut, *settings, quiet=True)
        assert not (cut / "previews" / f"epoch_{epoch}").exists()
    fit(cut, *settings, quiet=True)  # finished, but for its last preview
    assert len(calls) == 4
    assert {file.relative_to(cut): file.read_text() for file in cut.rglob("*.txt")} == {
        file.relative_to(whole): file.read_text() for file in whole.rglob("*.txt")
    }
    assert differences(whole, cut) == []


@pytest.mark.parametrize("fault", [ValueError("a\nparser's text"), MemoryError(), UserError("x.wav: silent")])
def test_a_preview_that_fails_is_said_and_training_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, capsys, fault
):
    whole, failing, settings = tmp_path / "whole", tmp_path / "failing", (*SHORT, "training.save_every=1")
    fit(whole, *settings, quiet=True)

    def fail(self, model, folder):
        (folder / "half.txt").write_text("half")
        raise fault

    monkeypatch.setattr(ToyTask, "preview", fail)
    fit(failing, *settings)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("No preview of epoch ")]
    words = {ValueError: "ValueError: a parser's text", MemoryError: "MemoryError: no reason given"}
    reason = words.get(type(fault), "x.wav: silent")
    assert said == [f"No preview of epoch {epoch}: {reason}; training goes on" for epoch in (1, 2)]
    assert not [*failing.rglob("half.txt")] and status(failing)["state"] == "finished"
    assert differences(whole, failing) == []


def test_a_defect_shows_its_traceback_and_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(ToyTask, "baselines", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, *SHORT, "training.save_every=1", quiet=True)
    assert status(tmp_path)["state"] == "failed" and "ZeroDivisionError" in status(tmp_path)["why"]


def test_a_signal_is_heard_only_while_a_run_lasts(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    fit(tmp_path, *SHORT, "training.epochs=1", quiet=True)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_before_the_first_step_stops_at_once_and_leaves_what_was_there(tmp_path, monkeypatch):
    fit(tmp_path, *SHORT, "training.epochs=1", quiet=True)
    before = (tmp_path / "last.pt").read_bytes()
    for when in ("datasets", "baselines"):
        monkeypatch.setattr(ToyTask, when, lambda self: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(5))
        with pytest.raises(Interrupted, match="before the first step"):
            fit(tmp_path, *SHORT, quiet=True)
        monkeypatch.undo()
    assert (tmp_path / "last.pt").read_bytes() == before
    assert status(tmp_path)["exit_status"] == 75
    assert fit(tmp_path, *SHORT, quiet=True).step == 16


def test_a_folder_that_can_not_be_written_is_bad_usage(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match=r"out: can't write there: File exists"):
        fit(tmp_path / "out", *SHORT, quiet=True)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("foo", "--device foo: unknown; use cpu, cuda, "),
        ("meta", "unknown"),
        ("cuda:x", "unknown"),
        ("", "unknown"),
        ("mps", "no Apple GPU here; use --device cpu"),
        ("cuda:7", "counted from 0"),
    ],
)
def test_a_device_that_is_not_here_is_bad_usage(tmp_path, monkeypatch, device, said):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=said):
        fit(tmp_path / "out", *SHORT, device=device)
    assert not (tmp_path / "out").exists()


def test_the_best_device_there_is(monkeypatch):
    def best(cuda, apple, size=1, local=0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
        return str(ranks.pick(None, local, size))

    assert best(cuda=False, apple=False) == "cpu"
    assert best(cuda=False, apple=True) == "mps"
    assert best(cuda=False, apple=True, size=2) == "cpu"  # gloo can't reach into Apple's GPU
    assert best(cuda=True, apple=True, size=2, local=1) == "cuda:1"
    with pytest.raises(UserError, match="this machine has 2 CUDA GPUs"):
        best(cuda=True, apple=False, size=4, local=2)


def test_cuda_without_a_gpu_is_bad_usage(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UserError, match="no CUDA GPU here; use --device cpu"):
        fit(tmp_path, *SHORT, device="cuda")


def test_rows_are_all_drawn_once_an_epoch(tmp_path, monkeypatch):
    drawn, item = [], trainee.Rows.item

    def look(self, index, rng):
        drawn.append((len(self), index))
        return item(self, index, rng)

    monkeypatch.setattr(trainee.Rows, "item", look)
    fit(tmp_path, *SHORT, quiet=True)
    train = [index for count, index in drawn if count == ROWS]
    assert sorted(train) == sorted([*range(ROWS)] * 2) and train[:ROWS] != train[ROWS:]
    assert np.all(np.diff([index for count, index in drawn if count == 23][:23]) == 1)


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
def test_compiled_training_gives_the_same_figures(tmp_path):
    a = fit(tmp_path / "a", *SHORT, "training.epochs=1", "model.dropout=0", quiet=True).val["val_loss"]
    b = fit(
        tmp_path / "b", *SHORT, "training.epochs=1", "model.dropout=0", "training.compile=true", quiet=True
    ).val
    assert b["val_loss"] == pytest.approx(a, rel=1e-4)
    assert all("_orig_mod" not in name for name in weights(tmp_path / "b"))

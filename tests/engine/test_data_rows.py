"""A run goes on without rows that can't be read any more, and the rest keeps its order and its draws."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest
import row_task
from row_task import fit, item_count, without
from runs import differences, status

from kwela.engine import checkpoint, data_rows, row_faults
from kwela.errors import Interrupted, UserError

SETTINGS = (
    "training.epochs=3",
    "training.min_epochs=0",
    "training.amp=false",
    "training.log_every=1",
    "training.save_every=1",
    "training.grad_accum_steps=2",
    "data.batch_size=4",
    "scheduler.warmup_steps=2",
)
ITEMS = sum(item_count(row) for row in range(row_task.ROWS["train"]))  # 49, so 7 steps of 8 an epoch
VAL_ITEMS = sum(item_count(row) for row in range(row_task.ROWS["val"]))
STOP = 13 + 6 + 6  # calls of `losses`: an epoch, its validation, and 3 steps of the second epoch
LOST = (4, 5, 14)  # rows with 2, 3 and 3 items


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folder of a run that was stopped after 3 steps of its second epoch, and what a whole run read."""
    folder = tmp_path_factory.mktemp("rows")
    whole = fit(folder / "whole", *SETTINGS)
    with pytest.raises(Interrupted):
        fit(folder / "part", *SETTINGS, switches={"signal_at": (STOP,)})
    return folder, whole.seen


def training_items(seen):
    """The items of each epoch that were read in training: a validation comes after each epoch."""
    epochs, at = [], 0
    while at < len(seen):
        epochs.append(seen[at : at + ITEMS])
        at += ITEMS + VAL_ITEMS
    return epochs


def resumed(runs, tmp_path, name="part", *, settings=(), **more):
    shutil.copytree(runs[0] / "part", tmp_path / name)
    return fit(tmp_path / name, *SETTINGS, *settings, **more)


@pytest.mark.parametrize("how", ["gone", "taken out", "both"])
def test_the_rest_keeps_its_order_and_its_draws(runs, tmp_path, how, capsys):
    gone = frozenset(("train", row) for row in LOST)
    switches = {"gone": gone}
    more = {"quiet": False}
    if how != "gone":
        switches["listed"] = without("train", *(LOST if how == "taken out" else LOST[:1]))
        more["data_hash"] = "fewer"
    task = resumed(runs, tmp_path, switches=switches, **more)
    _, second, third = training_items(runs[1])
    rest = [item for item in second[3 * 8 :] if item[0] not in LOST]
    assert len(rest) < ITEMS - 3 * 8  # some of the lost rows were still to come
    assert task.seen[: len(rest)] == rest
    left = [item for item in third if item[0] not in LOST]
    assert task.seen[len(rest) + VAL_ITEMS :][: len(left)] == left
    said = capsys.readouterr().out
    assert "Left out from here on: 3 rows, " in said and "train:row 4 (" in said
    run = json.loads((tmp_path / "part" / "run.json").read_text())
    assert [(row["side"], row["row"], row["step"]) for row in run["left_out_rows"]] == [
        ("train", f"train:row {row}", 10) for row in LOST
    ]
    assert status(tmp_path / "part")["state"] == "finished"


def test_without_the_numbers_the_draws_would_be_others(runs, tmp_path, monkeypatch):
    """The control: items that are numbered anew."""
    monkeypatch.setattr(data_rows.DataRows, "numbers", lambda self, side: None)
    task = resumed(runs, tmp_path, switches={"gone": frozenset({("train", 4)})})
    _, second, _ = training_items(runs[1])
    rest = [item for item in second[3 * 8 :] if item[0] != 4]
    assert [item[:2] for item in task.seen[: len(rest)]] == [item[:2] for item in rest]
    assert task.seen[: len(rest)] != rest


@pytest.mark.parametrize("call", [1, 5, 20, 27])
def test_a_run_without_rows_is_exact_wherever_it_is_stopped_again(runs, tmp_path, call):
    switches = {"gone": frozenset({("train", 4), ("train", 14), ("val", 2)})}
    resumed(runs, tmp_path, "once", switches=switches)
    shutil.copytree(runs[0] / "part", tmp_path / "twice")
    with pytest.raises(Interrupted):
        fit(tmp_path / "twice", *SETTINGS, switches=switches | {"signal_at": (call,)})
    fit(tmp_path / "twice", *SETTINGS, switches=switches)
    assert differences(tmp_path / "once", tmp_path / "twice") == []
    assert differences(runs[0] / "whole", tmp_path / "once") != []  # the control


def test_a_row_that_fails_in_training_is_named_and_the_next_session_leaves_it_out(runs, tmp_path, capsys):
    switches = {"failing": frozenset({("train", 7)})}
    with pytest.raises(UserError) as caught:
        fit(tmp_path / "out", *SETTINGS, switches=switches)
    step = status(tmp_path / "out")["step"]
    assert str(caught.value).startswith(f"train:row 7: 7.wav: damaged; saved at step {step}: ")
    assert caught.value.status == 2 == status(tmp_path / "out")["exit_status"]
    assert checkpoint.load(tmp_path / "out" / "last.pt")["progress"]["step"] == step
    task = fit(tmp_path / "out", *SETTINGS, switches=switches, quiet=False)
    assert "Left out from here on: 1 row, " in capsys.readouterr().out
    first = training_items(runs[1])[0]
    rest = [item for item in first[step * 8 :] if item[0] != 7]
    assert task.seen[: len(rest)] == rest


def test_a_failed_row_that_was_mended_stays(tmp_path, runs, capsys):
    with pytest.raises(UserError):
        fit(tmp_path / "out", *SETTINGS, switches={"failing": frozenset({("train", 7)})})
    fit(tmp_path / "out", *SETTINGS, quiet=False)
    assert "Left out" not in capsys.readouterr().out
    assert differences(runs[0] / "whole", tmp_path / "out") == []


def test_a_held_out_row_that_fails_is_named_and_left_out(tmp_path):
    switches = {"failing": frozenset({("val", 3)})}
    with pytest.raises(UserError, match=r"^val:row 3: 3\.wav: damaged; saved at step 7"):
        fit(tmp_path / "out", *SETTINGS, switches=switches)
    fit(tmp_path / "out", *SETTINGS, switches=switches)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [(row["side"], row["row"]) for row in run["left_out_rows"]] == [("val", "val:row 3")]


def test_a_row_that_can_be_read_again_comes_back(runs, tmp_path, capsys):
    shutil.copytree(runs[0] / "part", tmp_path / "part")
    with pytest.raises(Interrupted):
        fit(tmp_path / "part", *SETTINGS, switches={"gone": frozenset({("train", 4)}), "signal_at": (3,)})
    task = fit(tmp_path / "part", *SETTINGS, quiet=False)
    assert "Used again: 1 row, " in capsys.readouterr().out
    third = training_items(runs[1])[2]
    assert task.seen[-ITEMS - VAL_ITEMS :][:ITEMS] == third
    assert json.loads((tmp_path / "part" / "run.json").read_text())["left_out_rows"] == []


@pytest.mark.parametrize(
    ("listed", "why"),
    [
        (without("train", 4), r"train:row 4 was taken out, and its files can be read"),
        ((list(range(25))[::-1], list(range(11))), r"train:row 23 stands at another place"),
        ((list(range(26)), list(range(11))), r"train:row 25 is not one that the run began with"),
        ((list(range(25)), [*range(10), 12]), r"val:row 12 is not one that the run began with"),
    ],
)
def test_other_data_are_still_refused(runs, tmp_path, listed, why, capsys):
    with pytest.raises(UserError, match=rf"it has data data, here other \({why}\)"):
        resumed(
            runs,
            tmp_path,
            "p",
            switches={"listed": listed},
            data_hash="other",
            resume=runs[0] / "part" / "last.pt",
        )
    resumed(
        runs,
        tmp_path,
        switches={"listed": listed},
        data_hash="other",
        quiet=False,
        settings=("training.epochs=1",),
    )
    assert f"what was there is now {tmp_path}/part.1" in capsys.readouterr().out


def test_a_file_that_gives_another_number_of_items_is_refused(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(row_task, "item_count", lambda row: 1 + row % 3 + (row == 6))
    with pytest.raises(
        UserError, match=r"train:row 6: its file has changed: it gives 2 training items, and 1"
    ):
        resumed(runs, tmp_path)


def test_many_rows_at_once_are_a_disk_that_is_away(runs, tmp_path):
    gone = frozenset(("train", row) for row in range(13))
    with pytest.raises(UserError, match=r"13 of 25 rows can't be read: is a disk or a network mount away"):
        resumed(runs, tmp_path, switches={"gone": gone})
    assert checkpoint.load(tmp_path / "part" / "last.pt")["progress"]["step"] == 10


def test_a_reason_that_may_pass_is_tried_again_and_said(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(row_faults, "PAUSES", (0.0, 0.0))
    switches = {"flaky": frozenset({("train", 7)})}
    with pytest.raises(UserError, match=r"train:row 7: 7\.wav: Input/output error; saved at step"):
        fit(tmp_path / "out", *SETTINGS, switches=switches)
    assert fit.last.tries == 3
    fit(tmp_path / "out", *SETTINGS, switches=switches, quiet=False)
    assert "may pass: tried again at the next start" in capsys.readouterr().out
    (row,) = json.loads((tmp_path / "out" / "run.json").read_text())["left_out_rows"]
    assert row["may_pass"] and "Input/output error" in row["reason"]


def test_a_row_comes_through_a_worker_with_its_name(tmp_path):
    switches = {"failing": frozenset({("train", 7)})}
    with pytest.raises(UserError, match=r"^train:row 7: 7\.wav: damaged; saved at step \d"):
        fit(tmp_path / "out", *SETTINGS, "data.num_workers=2", switches=switches)


def test_a_checkpoint_without_rows_resumes_as_before(runs, tmp_path):
    shutil.copytree(runs[0] / "part", tmp_path / "part")
    state = checkpoint.load(tmp_path / "part" / "last.pt")
    del state["meta"]["rows"]
    checkpoint.save(state, tmp_path / "part" / "last.pt")
    with pytest.raises(UserError, match=r"train:row 4: 4\.wav: gone"):
        fit(tmp_path / "part", *SETTINGS, switches={"gone": frozenset({("train", 4)})})
    fit(tmp_path / "part", *SETTINGS)
    assert differences(runs[0] / "whole", tmp_path / "part") == []


@pytest.mark.parametrize("packed", ["", "no", 3, "c$|$" * 9])
def test_a_damaged_record_of_rows_is_one_line(runs, tmp_path, packed):
    state = checkpoint.load(runs[0] / "part" / "last.pt")
    state["meta"]["rows"] = packed
    checkpoint.save(state, tmp_path / "odd.pt")
    for data_hash in ("data", "other"):
        with pytest.raises(UserError, match=r"odd\.pt: can't resume from it: .*the record of its rows"):
            fit(tmp_path / "out", *SETTINGS, resume=tmp_path / "odd.pt", data_hash=data_hash)


def test_a_row_that_fails_on_one_rank_stops_all_with_one_checkpoint(tmp_path):
    def run_two_ranks():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        command = [
            sys.executable,
            row_task.__file__,
            str(tmp_path / "out"),
            "7",
            *SETTINGS,
            "data.batch_size=2",
        ]
        ranks = [
            subprocess.Popen(
                command,
                env=os.environ | team | {"RANK": rank, "LOCAL_RANK": rank},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in ("0", "1")
        ]
        said = [rank.communicate(timeout=120)[1] for rank in ranks]
        return [rank.returncode for rank in ranks], said

    exit_statuses, said = run_two_ranks()
    step = status(tmp_path / "out")["step"]
    assert exit_statuses == [2, 2], said
    assert all(f"train:row 7: 7.wav: damaged; saved at step {step}: " in text for text in said)
    assert checkpoint.load(tmp_path / "out" / "last.pt")["progress"]["step"] == step
    exit_statuses, said = run_two_ranks()
    assert exit_statuses == [0, 0], said
    (row,) = json.loads((tmp_path / "out" / "run.json").read_text())["left_out_rows"]
    assert row["row"] == "train:row 7"

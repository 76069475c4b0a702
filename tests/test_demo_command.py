"""`kwela demo`: what it reuses and what it makes again, its report; and what its models' commands make."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import symusic

import scratch
from kwela.cli import demo, demo_report
from kwela.corpus.pairs import manifest
from kwela.errors import Interrupted, KwelaError
from scratch import kwela

# ---------------------------------------------------------------- the journal


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands do no more than write a text into each of their files: `write TEXT FILE...`. Returns those
    that ran.
    """
    commands: list[list[str]] = []

    def command(self: demo.Journal, name: str, arguments: list[str], root: Path, quiet: bool) -> None:
        commands.append(arguments)
        text, *files = [word for word in arguments[1:] if word != "--fresh"]
        if text == "stop":
            raise Interrupted("asked to stop")
        for file in map(Path, files):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    monkeypatch.setattr(demo.Journal, "_command", command)
    return commands


def run(folder: Path, *stages: demo.Stage) -> demo.Journal:
    journal = demo.Journal(folder / "stages.json")
    for stage in stages:
        journal.run(stage, "[1/1]", folder, quiet=False)
    return journal


def writing(folder: Path, text: str = "as made", **more: bool) -> demo.Stage:
    """A stage that reads one file and makes a file and a folder."""
    best, clouds = folder / "best.pt", folder / "clouds"
    command = ["write", text, str(best), str(clouds / "a.npy")]
    return demo.Stage("one", [command], inputs=[folder / "input"], outputs=[best, clouds], **more)


def test_a_stage_is_reused_with_its_first_seconds(
    tmp_path: Path, ran: list, capsys: pytest.CaptureFixture
) -> None:
    first = run(tmp_path, writing(tmp_path)).seconds()
    assert run(tmp_path, writing(tmp_path)).seconds() == first
    assert len(ran) == 1
    assert capsys.readouterr().out.endswith("[1/1] one: reused (0 s the first time)\n")


def replace_the_file(folder: Path) -> None:
    (folder / "best.pt").write_text("another")  # a model of another run; as long as the one it replaces


def remove_the_file(folder: Path) -> None:
    (folder / "best.pt").unlink()


def add_to_the_folder(folder: Path) -> None:
    (folder / "clouds" / "b.npy").write_text("")


def change_the_input(folder: Path) -> None:
    (folder / "input").write_text("changed")


def touch_everything(folder: Path) -> None:
    for file in folder.rglob("*.*"):
        os.utime(file, (0, 0))


@pytest.mark.parametrize(
    ("change", "runs"),
    [
        (replace_the_file, 2),
        (remove_the_file, 2),
        (add_to_the_folder, 2),
        (change_the_input, 2),
        (touch_everything, 1),  # content counts, not times
    ],
)
def test_a_stage_runs_again_unless_all_it_read_and_made_is_the_same(
    tmp_path: Path, ran: list, change: Callable[[Path], None], runs: int
) -> None:
    (tmp_path / "input").write_text("x")
    run(tmp_path, writing(tmp_path))
    change(tmp_path)
    run(tmp_path, writing(tmp_path))
    assert len(ran) == runs
    run(tmp_path, writing(tmp_path))
    assert len(ran) == runs  # and what it then made is reused


def test_another_version_setting_or_command_runs_a_stage_again(
    tmp_path: Path, ran: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, writing(tmp_path))
    run(tmp_path, writing(tmp_path, "otherwise"))
    raised = writing(tmp_path, "otherwise")
    raised.depends.append(2)
    run(tmp_path, raised)
    assert len(ran) == 3
    monkeypatch.setattr("kwela.__version__", "another")
    run(tmp_path, raised)
    run(tmp_path, raised)
    assert len(ran) == 4


def test_a_training_goes_on_only_from_what_this_demo_began(tmp_path: Path, ran: list) -> None:
    def began_anew() -> bool:
        return "--fresh" in ran[-1]

    training, stopped = writing(tmp_path, trains=True), writing(tmp_path, "stop", trains=True)
    with pytest.raises(Interrupted):
        run(tmp_path, stopped)
    assert began_anew()  # whatever stood there before the demo
    with pytest.raises(Interrupted):
        run(tmp_path, stopped)
    assert not began_anew()  # interrupted, the same stage: exactly where it was

    run(tmp_path, training)
    assert began_anew()
    replace_the_file(tmp_path)
    run(tmp_path, training)
    assert began_anew()  # else it would find its last.pt finished, and leave the other's best.pt in place
    assert (tmp_path / "best.pt").read_text() == "as made"


def test_an_interrupted_stages_seconds_add_up(tmp_path: Path, ran: list) -> None:
    with pytest.raises(Interrupted):
        run(tmp_path, writing(tmp_path, "stop"))
    file = tmp_path / "stages.json"
    entries = json.loads(file.read_text())
    entries["one"]["seconds"] = 60.0
    file.write_text(json.dumps(entries))
    with pytest.raises(Interrupted):
        run(tmp_path, writing(tmp_path, "stop"))
    assert run(tmp_path).seconds() == {"one": 60.0}


def test_a_stage_that_leaves_something_out_is_not_done(tmp_path: Path, ran: list) -> None:
    stage = writing(tmp_path)
    stage.outputs.append(tmp_path / "missing.onnx")
    for _ in range(2):
        with pytest.raises(KwelaError, match=r"stage one did not write .*missing\.onnx"):
            run(tmp_path, stage)
    assert len(ran) == 2


def test_a_signal_reaches_the_stages_command_which_saves(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text(
        '#!/bin/bash\ntrap "sleep .3; echo saved; exit 75" TERM\necho training\nsleep 20 & wait\n'
    )
    fake.chmod(0o755)
    probe = (
        "import sys; from pathlib import Path; from kwela.cli import demo; from kwela.errors import Interrupted\n"
        f"sys.executable = {str(fake)!r}\n"
        f"journal = demo.Journal(Path({str(tmp_path)!r}) / 'stages.json')\n"
        "try: journal.run(demo.Stage('one', [[]]), '', Path('.'), quiet=False)\n"
        "except Interrupted as stopped: sys.exit(stopped.status)\n"
    )
    with subprocess.Popen([sys.executable, "-c", probe], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        while running.stdout.readline() != "training\n":
            pass
        running.send_signal(signal.SIGTERM)
        assert running.stdout.readline() == "saved\n"
        assert running.wait(10) == 75


# ------------------------------------------------------------------- the plan


def test_a_stage_reads_what_stages_before_it_made(tmp_path: Path) -> None:
    made: set[Path] = set()
    for stage in demo.plan(tmp_path, 24, None):
        assert set(stage.inputs) <= made, stage.name
        assert stage.outputs
        made.update(stage.outputs)
    names = [stage.name for stage in demo.plan(tmp_path, 24, None)]
    assert names == ["corpus", "manifests", "spectocloud", "midi_generator", "export", "samples"]


def test_the_plan_passes_pieces_and_epochs_on(tmp_path: Path) -> None:
    stages = {stage.name: stage.commands[0] for stage in demo.plan(tmp_path, 24, 3)}
    assert stages["corpus"][-2:] == ["--pieces", "24"]
    assert stages["spectocloud"] == ["train", "spectocloud", "--preset", "demo", "--epochs", "3"]
    assert stages["midi_generator"] == ["train", "midi", "--preset", "demo", "--epochs", "3"]
    assert stages["manifests"][stages["manifests"].index("--val-split") + 1] == ".15"


def test_a_moved_checkout_is_made_again_where_paths_are_absolute(
    tmp_path: Path, ran: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(root: Path) -> list[demo.Stage]:
        # As in the plan: the manifests hold absolute paths, and a training reads them.
        manifests, best = root / "manifests.jsonl", root / "best.pt"
        return [
            demo.Stage("manifests", [["write", str(root), str(manifests)]], outputs=[manifests]),
            demo.Stage("midi", [["write", "a model", "best.pt"]], [manifests], [best], trains=True),
        ]

    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for root, commands in ((here, 2), (here, 2), (there, 4)):
        if not root.exists():
            here.rename(there)
        monkeypatch.chdir(root)
        run(root, *stages(root))
        assert len(ran) == commands
    for name in ("corpus", "manifests"):
        one, other = ({s.name: s for s in demo.plan(root, 24, None)}[name] for root in (here, there))
        assert one.commands != other.commands


# -------------------------------------------- the report, and what models make


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with manifests of eight synthetic songs and a tiny model of each family."""
    folder = scratch.make(tmp_path_factory.mktemp("demo") / "checkout")
    manifest.build(
        *scratch.pairs(folder / "music", 8), folder / "data" / "manifests", val_split=0.25, quiet=True
    )
    for family in ("spectocloud", "midi"):
        done = kwela(
            folder, "train", family, "--preset", "tiny", "--epochs", "1", "--set", "training.save_every=5"
        )
        assert done.status == 0, done.err
        assert "WARNING" not in done.out
    return folder


def test_the_report_has_the_contracts_keys_and_the_table_its_figures(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = root / "checkpoints" / "midi_generator" / "best.pt"
    stages = [demo.Stage("midi_generator", [["train"]], outputs=[best])]
    monkeypatch.setattr(demo, "plan", lambda *_: stages)
    monkeypatch.setattr(demo.Journal, "_command", lambda *_: None)
    done = kwela(root, "demo", "--install-seconds", "38", "--json")
    assert done.status == 0, done.err
    report = json.loads(done.out)
    assert report == json.loads((root / "demo_report.json").read_text())

    cloud, midi = report["spectocloud"], report["midi"]
    assert {"val_chamfer", "floor", "baselines", "songs"} <= set(cloud)
    assert set(cloud["baselines"]) == {"mean_cloud", "emotion_only", "nearest_neighbour"}
    assert {"val_ce", "baselines", "songs"} <= set(midi)
    assert set(midi["baselines"]) == {"unigram_ce", "bigram_ce", "fourgram_ce"}
    held_out = json.loads((root / "data/manifests/manifest_report.json").read_text())["counts"]["songs_val"]
    assert len(cloud["songs"]) == len(midi["songs"]) == held_out
    assert set(report["seconds"]) == {"install", "midi_generator", "report"}  # stages alone, no total
    assert report["seconds"]["install"] == 38
    assert report["files"] == ["checkpoints/midi_generator/best.pt"]
    assert set(report) == {"spectocloud", "midi", "seconds", "files"}

    table = demo_report.table(report)
    assert f"Spectocloud, {held_out} held-out songs" in table
    for figure in (cloud["val_chamfer"], *cloud["baselines"].values()):
        assert f" {figure:.5f} " in table
    for figure in (midi["val_ce"], *midi["baselines"].values()):
        assert f" {figure:.3f} " in table


def test_generate_midi_writes_the_bars_asked_for_and_the_same_ones_for_a_seed(root: Path) -> None:
    command = ["generate", "midi", "--emotion", "0:grief;1:calm", "--bars", "2", "--seed", "3"]
    done = kwela(
        root, *command, "--variations", "2", "--out", "made/song.mid", "--roll", "made/song.png", "--json"
    )
    assert done.status == 0, done.err
    made = json.loads(done.out)["made"]
    assert [entry["seed"] for entry in made] == [3, 4]
    assert [entry["files"] for entry in made] == [
        [f"made/song_{n}.mid", f"made/song_{n}.png"] for n in (1, 2)
    ]
    for entry in made:
        score = symusic.Score(root / entry["files"][0])
        assert score.start() < 2 * 16 * score.ticks_per_quarter  # two bars, of whatever meter
        assert (root / entry["files"][1]).stat().st_size > 1000
    again = kwela(root, *command, "--out", "again.mid")
    assert again.out.startswith("wrote again.mid (")
    assert (root / "again.mid").read_bytes() == (root / "made/song_1.mid").read_bytes()
    assert (root / "again.mid").read_bytes() != (root / "made/song_2.mid").read_bytes()


def test_cloud_predict_and_compare_draw_what_a_model_sees(root: Path) -> None:
    audio = next((root / "music" / "audio" / "calm").glob("*.wav"))
    midi = root / "music" / "midi" / "calm" / f"{audio.stem}.mid"
    files = ["seen.npy", "seen.png", "seen.html"]
    outs = [word for file in files for word in ("--out", file)]
    done = kwela(root, "cloud", "predict", str(audio), "--midi", str(midi), "--start", "1", *outs)
    assert done.status == 0, done.err
    assert done.out.splitlines() == [f"wrote {file}" for file in files]

    pair = kwela(root, "cloud", "compare", "--row", "2", "--out", "pair.png", "--out", "pair.html")
    assert pair.status == 0, pair.err
    for file in [*files, "pair.png", "pair.html"]:
        assert (root / file).stat().st_size > 1000
    far = kwela(root, "cloud", "compare", "--row", "99")
    assert far.status == 2 and "--row 99" in far.err

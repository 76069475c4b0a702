"""The subjects of the golden records: what is run, and what of its result is written down.

Almost everything goes through the command line (`kwela.cli.main`), because modules move and commands do not. The few
other names of kwela are imported in `_codec` alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import made_inputs
import numpy as np
import soundfile

Record = dict[str, Any]
SUBJECTS: dict[str, Callable[[Bench], Record]] = {}
SEEDS = range(6)
EMOTIONS = ["grief", "calm", "joy", "neutral", "anger_t6", "data/happy/track.wav", "track_sad_01.mid", "unhappy.wav"]
# Keys of JSON whose values are durations, speeds, hosts or file hashes of floats: only their presence is recorded.
VOLATILE = {
    *(
        "seconds",
        "items_per_s",
        "wall_seconds",
        "device_seconds",
        "started",
        "commit",
        "host",
        "platform",
        "latency_ms",
    ),
    *("machine", "versions", "hardware", "first_audio_seconds", "seconds_per_second", "peak_memory_mb", "cpus"),
    *("hours", "dollars", "bytes", "silent_seconds", "who"),
}
HELD_OUT = 6  # songs on the validation side of `Bench.corpus`, at least


class Bench:
    """A scratch folder, the commands run in it, and what several subjects share, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def kwela(self, *words: object, cwd: Path | None = None) -> Record:
        """Run a command in this process. Returns its words, exit status and lines of stdout, or its JSON."""
        from kwela.cli import main

        out, status = io.StringIO(), None
        arguments = [str(word) for word in words]
        folder, error = contextlib.chdir(cwd or self.folder), io.StringIO()
        with folder, contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                main(arguments)
            except SystemExit as ended:
                status = ended.code
        self.err = error.getvalue()
        said = out.getvalue()
        if "--json" in arguments and status == 0:
            return {"command": arguments, "status": status, "json": json.loads(said)}
        return {"command": arguments, "status": status, "stdout": said.splitlines()}

    def normal(self, value: Any) -> Any:
        """`value` without this run's paths, durations and NaN."""
        if isinstance(value, dict):
            return {self.normal(k): "..." if k in VOLATILE else self.normal(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.normal(item) for item in value]
        if isinstance(value, str):
            value = value.replace(str(self.folder), "SCRATCH").replace(str(made_inputs.ROOT), "REPOSITORY")
            value = re.sub(r"[\d.,]+ (items|pairs|clips|ids)/s", r"N \1/s", value)
            return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "DATE", value)
        if isinstance(value, float) and not np.isfinite(value):
            return repr(value)
        return value

    @functools.cached_property
    def corpus(self) -> Path:
        """A checkout with 16 songs and their manifests, clouds included, at the default paths."""
        root = made_inputs.checkout(self.folder / "corpus")
        audio, midi = made_inputs.songs(root / "data" / "songs", 18)
        words = ["--audio-root", audio, "--midi-root", midi, "--val-split", "0.4", "--workers", "1"]
        done = self.kwela("manifests", *words, "--generate-clouds", "--segments", "2", cwd=root)
        assert done["status"] == 0, self.err
        return root

    def trained(self, family: str) -> Path:
        """The folder of a finished tiny run on `corpus`."""
        out = self.corpus / "checkpoints" / {"midi": "midi_generator"}.get(family, family)
        if not out.is_dir():
            done = self.kwela("train", family, "--preset", "tiny", "--device", "cpu", cwd=self.corpus)
            assert done["status"] == 0, self.err
        return out


def subject(run: Callable[[Bench], Record]) -> Callable[[Bench], Record]:
    """Register a function under its own name."""
    SUBJECTS[run.__name__] = run
    return run


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_in(folder: Path) -> list[str]:
    """The files below `folder`; names that are hashes are shown as HASH."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted({re.sub(r"[0-9a-f]{16,}", "HASH", re.sub(r"events\.out\S+", "EVENTS", name)) for name in names})


def kind_of(path: Path) -> str:
    """What a file is by its first bytes."""
    head = path.read_bytes()[:16]
    known = {b"\x89PNG": "PNG", b"GIF8": "GIF", b"%PDF": "PDF", b"RIFF": "WAV", b"fLaC": "FLAC", b"MThd": "MIDI"}
    known |= {b"<!do": "HTML", b"<!DO": "HTML", b"ply\n": "PLY", b"\x93NUM": "NPY"}
    return known.get(head[:4], "text")


# ----------------------------------------------------------------------------- commands that compute little


@subject
def command_line(bench: Bench) -> Record:
    """Every command with its parameters: names, types, defaults, whether required."""
    import typer

    from kwela.cli import app

    found: Record = {}

    def walk(command: Any, name: str) -> None:
        for word, inner in sorted(getattr(command, "commands", {}).items()):
            walk(inner, f"{name} {word}")
        if not hasattr(command, "commands"):
            found[name] = [_parameter(one) for one in command.params if one.name != "help"]

    walk(typer.main.get_command(app), "kwela")
    return {"exact": found}


def _parameter(one: Any) -> str:
    """A parameter in a line: its options, type, range, default, and whether it is required or may be repeated."""
    kind, limits = _type_name(one.type_descriptor.annotation), [getattr(one, "min", None), getattr(one, "max", None)]
    words = [
        *one.opts,
        *one.secondary_opts,
        f"type {kind}",
        f"from {limits[0]} to {limits[1]}",
        f"default {one.default}",
    ]
    return ", ".join(words + ["required"] * one.required + ["many"] * (one.multiple or one.nargs != 1))


def _type_name(annotation: Any) -> Any:
    """A parameter's type without its module: the choices of an enumeration, else its plain name."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [item.value for item in annotation]
    return re.sub(r"\w+\.(?=\w)", "", annotation.__name__ if isinstance(annotation, type) else str(annotation))


@subject
def bad_usage(bench: Bench) -> Record:
    """Exit statuses of commands that cannot be done."""
    asked = [
        ["emotion", "zorp"],
        ["train", "midi", "--epoch", "3"],
        ["train", "opera"],
        ["train", "midi", "--set", "training.epoch=3"],
        ["train", "midi", "--config", "nowhere.yaml"],
        ["train", "midi", "--check"],
        ["train", "midi", "--fresh", "--resume", "x.pt"],
        ["manifests", "--audio-root", "/nowhere", "--midi-root", "/nowhere"],
        ["export"],
        ["export", "--all"],
        ["export", "--spectocloud", "nowhere.pt"],
        ["generate", "midi", "--emotion", "0:calm;x"],
        ["generate", "midi", "--emotion", "calm"],
        ["generate", "audio", "--model", "nowhere.pt"],
        ["cloud", "render", "nowhere.npy"],
        ["tokens", "check", "nowhere.mid"],
        ["tokens", "decode", "pyproject.toml", "out.mid"],
        ["dataset", "magnatagatune"],
        ["dataset", "folder", "nowhere"],
        ["judge", "midi"],
        ["judge", "clouds"],
        ["judge", "damage", "--base", "nowhere", "--tuned", "nowhere"],
        ["judge", "authenticity", "--contrast", "nowhere", "--samples", "nowhere"],
        ["campaign", "status"],
        ["campaign", "report"],
        ["campaign", "run"],
        ["campaign", "extend", "--to", "800"],
        ["campaign", "plan", "--throughput", "1", "--probe"],
        ["campaign", "simulate", "--market", "flea"],
        ["campaign", "check", "--confirm", "everything"],
    ]
    root = made_inputs.checkout(bench.folder / "bare")
    return {"exact": {" ".join(words): bench.kwela(*words, cwd=root)["status"] for words in asked}}


@subject
def emotion(bench: Bench) -> Record:
    words = [word for word in EMOTIONS if bench.kwela("emotion", word)["status"] == 0]
    said = bench.kwela("emotion", *words)
    return {"exact": {"text": said, "known": words}, "arithmetic": bench.kwela("emotion", *words, "--json")}


@subject
def tokens(bench: Bench) -> Record:
    """Ids of made scores, the files that decoding gives, and what a round trip loses."""
    folder = bench.folder / "tokens"
    folder.mkdir()
    exact: Record = {"codec": _codec(), "scores": {}}
    losses = {}
    for seed in SEEDS:
        made_inputs.rich_score(seed).dump_midi(str(folder / f"{seed}.mid"))
        found = bench.kwela("tokens", "encode", f"{seed}.mid", "--json", cwd=folder)["json"]
        bench.kwela("tokens", "encode", f"{seed}.mid", "--out", f"{seed}.json", cwd=folder)
        said = bench.kwela("tokens", "decode", f"{seed}.json", f"{seed}_again.mid", cwd=folder)
        ids = np.array(found["ids"], np.int32)
        exact["scores"][seed] = {
            "tokenizer": found["tokenizer"],
            "count": len(ids),
            "ids_sha256": sha256(ids.tobytes()),
            "first_ids": found["ids"][:60],
            "decoded_sha256": sha256((folder / f"{seed}_again.mid").read_bytes()),
            "decode": said,
        }
        losses[seed] = bench.kwela("tokens", "check", f"{seed}.mid", "--json", cwd=folder)["json"]["files"]
    exact["check"] = bench.kwela("tokens", "check", "0.mid", "1.mid", cwd=folder)
    exact["encode"] = sha256("\n".join(bench.kwela("tokens", "encode", "0.mid", cwd=folder)["stdout"]).encode())
    (folder / "odd.json").write_text(json.dumps([384, 5, 999, -3, 387, 160, 60, 130, 223, 386, 387]))
    exact["any_ids"] = bench.kwela("tokens", "decode", "odd.json", "odd.mid", cwd=folder)["status"]
    exact["any_ids_sha256"] = sha256((folder / "odd.mid").read_bytes())
    return {"exact": exact, "arithmetic": losses}


def _codec() -> Record:
    """The tokenizer's hash and its grammar along a song: which ids are allowed after each."""
    from kwela.music import tokens as codec

    ids = codec.encode(made_inputs.rich_score(1))
    state, masks = codec.start(), []
    for one in ids[:600]:
        masks.append(np.packbits(codec.allowed(state)).tobytes())
        state = codec.advance(state, int(one))
    return {"tokenizer_hash": codec.tokenizer_hash(), "allowed_sha256": sha256(b"".join(masks))}


@subject
def manifests(bench: Bench) -> Record:
    """The manifests' bytes, with and without clouds, labels and alignment."""
    root = made_inputs.checkout(bench.folder / "paired")
    audio, midi = made_inputs.songs(root / "in", 8)
    shutil.copy(midi / "sad" / "song_02.mid", midi / "sad" / "lonely.mid")
    (audio / "happy" / "song_00_broken.wav").write_bytes(b"no sound")
    (midi / "happy" / "song_00_broken.mid").write_bytes(b"no notes")
    (root / "labels.csv").write_text("stem,valence,arousal,intensity\nsong_01,0.5,-0.25,0.75\n")
    exact: Record = {}
    for name, more in (
        ("plain", []),
        ("clouds", ["--generate-clouds", "--segments", "2", "--val-split", "0.3"]),
        ("labels", ["--labels", "labels.csv", "--seed", "7"]),
        ("align", ["--align"]),
    ):
        words = ["--audio-root", audio, "--midi-root", midi, "--out-dir", name, "--clouds-dir", "clouds"]
        done = bench.kwela("manifests", *words, "--workers", "1", *more, cwd=root)
        lines = {path.name: path.read_text().splitlines() for path in sorted((root / name).glob("*.jsonl"))}
        report = json.loads((root / name / "manifest_report.json").read_text())
        exact[name] = {"said": done, "report": report, "lines": _without_hashes(lines)}
    words = ["--audio-root", audio, "--midi-root", midi, "--out-dir", "again", "--workers", "1", "--json"]
    exact["json"] = bench.kwela("manifests", *words, cwd=root)
    exact["clouds"] = len(list((root / "clouds").glob("*.npy")))
    return {"exact": exact}


def _without_hashes(value: Any) -> Any:
    """A cloud's file is named by a hash that a new version may change: only that it is one is recorded."""
    return json.loads(re.sub(r"[0-9a-f]{32,}(?=[.\w]*\.npy)", "HASH", json.dumps(value)))


@subject
def datasets(bench: Bench) -> Record:
    """The proxy set out of a folder with tags and out of MagnaTagATune's form."""
    root = made_inputs.checkout(bench.folder / "proxy")
    made_inputs.tagged_clips(root / "music")
    made_inputs.magnatagatune(root / "mtt" / "magnatagatune")
    exact: Record = {}
    for name, words in (
        ("folder", ["folder", "music", "--tags", "music/tags.csv", "--min-tags", "1", "--datasets", "own"]),
        ("magnatagatune", ["magnatagatune", "--datasets", "mtt", "--min-tags", "2"]),
    ):
        said = bench.kwela("dataset", *words, "--workers", "1", cwd=root)
        again = bench.kwela("dataset", *words, "--workers", "1", "--json", cwd=root)
        out = root / words[words.index("--datasets") + 1] / "amapiano_proxy"
        table = (out / "training_metadata.csv").read_text().splitlines()
        exact[name] = {"said": said, "report": again, "table": table, "files": files_in(out)}
    return {"exact": exact}


@subject
def cloud_target(bench: Bench) -> Record:
    """Clouds computed from the music: their numbers, and the files in which they are drawn."""
    root = made_inputs.checkout(bench.folder / "targets")
    made_inputs.songs(root, 4)
    exact: Record = {}
    arithmetic: Record = {}
    machine: Record = {}
    for number, (mood, more) in enumerate(
        (("happy", []), ("calm", ["--start", "1.5"]), ("sad", ["--offset", "0.2"]), ("angry", ["--emotion", "grief"]))
    ):
        song = f"{mood}/song_{number:02}"
        outs = [f"{number}.{kind}" for kind in ("npy", "ply")]
        words = [f"audio/{song}.wav", "--midi", f"midi/{song}.mid", *more]
        said = bench.kwela("cloud", "target", *words, *(w for out in outs for w in ("--out", out)), cwd=root)
        exact[song] = {"said": said, "kinds": {out: kind_of(root / out) for out in outs}}
        for part in (f"{number}.npy", f"{number}.attributes.npy"):
            cloud = np.load(root / part)
            exact[song][part] = [list(cloud.shape), str(cloud.dtype)]
            arithmetic[part] = _figures(cloud)
            machine[part] = sha256(cloud.tobytes())
        machine[f"{number}.ply"] = sha256((root / f"{number}.ply").read_bytes())
    words = [word for kind in ("png", "html") for word in ("--out", f"drawn.{kind}")]
    exact["render"] = bench.kwela("cloud", "render", "0.npy", *words, cwd=root)
    exact["drawn"] = {path.name: kind_of(path) for path in sorted(root.glob("drawn.*"))}
    return {"exact": exact, "arithmetic": arithmetic, "bits": machine}


def _figures(cloud: np.ndarray) -> Record:
    return {
        "mean": np.round(cloud.mean(0, np.float64), 6).tolist(),
        "std": np.round(cloud.std(0, dtype=np.float64), 6).tolist(),
        "some_points": np.round(cloud[::400].astype(float), 5).tolist(),
    }


# ----------------------------------------------------------------------------- training


def _run(bench: Bench, folder: Path, root: Path) -> Record:
    """What a run left: its files, lines of metrics, the shape of its checkpoint, and the hash of its weights."""
    import torch

    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
    weights = {name: tensor.cpu().numpy() for name, tensor in sorted(state["model"].items())}
    about = json.loads((folder / "run.json").read_text())
    status = json.loads((folder / "status.json").read_text())
    plain = {key: state[key] for key in ("format", "family", "tokenizer_hash", "progress", "stopping", "scheduler")}
    return {
        "exact": {
            "files": files_in(folder),
            "status": status,
            "run": {"keys": sorted(about), "config": about["config"], "batch": about["batch"], "steps": about["steps"]},
            "metrics_keys": sorted({f"{row['split']}: {key}" for row in rows for key in row}),
            "checkpoint": {
                "keys": sorted(state),
                "tensors": {name: [list(array.shape), str(array.dtype)] for name, array in weights.items()},
                "progress": plain["progress"],
                "format": [plain["format"], plain["family"], plain["tokenizer_hash"]],
                "config": state["config"],
                "meta_keys": sorted(state["meta"]),
                "optimizer_keys": sorted(state["optimizer"]),
            },
        },
        "trained": {
            "metrics": [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows],
            "stopping": plain["stopping"],
            "scheduler": plain["scheduler"],
            "weights": {name: [float(np.abs(array).mean())] for name, array in weights.items() if array.size > 64},
        },
        "bits": {
            "weights_sha256": sha256(b"".join(array.tobytes() for array in weights.values())),
            "data_hash": state["meta"]["data_hash"],
        },
    }


@subject
def train_spectocloud(bench: Bench) -> Record:
    folder = bench.trained("spectocloud")
    found = _run(bench, folder, bench.corpus)
    found["bits"].pop("data_hash")  # of rows with absolute paths
    again = bench.kwela("train", "spectocloud", "--preset", "tiny", "--device", "cpu", cwd=bench.corpus)
    found["exact"]["again"] = again["stdout"][:1]
    out = ["--out", "seen.npy", "--out", "seen.html"]
    song = "data/songs/audio/happy/song_00.wav"
    words = [song, "--midi", "data/songs/midi/happy/song_00.mid", *out]
    found["exact"]["predict"] = bench.kwela("cloud", "predict", *words, cwd=bench.corpus)
    found["exact"]["compare"] = bench.kwela("cloud", "compare", "--row", "2", "--out", "pair.html", cwd=bench.corpus)
    cloud = np.load(bench.corpus / "seen.npy")
    found["trained"]["predicted"] = _figures(cloud)
    found["bits"]["predicted_sha256"] = sha256(cloud.tobytes())
    return found


@subject
def train_midi(bench: Bench) -> Record:
    folder = bench.trained("midi")
    found = _run(bench, folder, bench.corpus)
    found["bits"].pop("data_hash")
    again = bench.kwela("train", "midi", "--preset", "tiny", "--device", "cpu", cwd=bench.corpus)
    found["exact"]["again"] = again["stdout"][:1]
    more = bench.kwela("train", "midi", "--preset", "tiny", "--device", "cpu", "--epochs", "3", "--out", "longer",
                       "--resume", folder / "last.pt", "--json", cwd=bench.corpus)  # fmt: skip
    found["exact"]["longer"] = {key: more["json"][key] for key in ("step", "epoch", "monitor")}
    found["trained"]["longer"] = more["json"]["val"]
    return found


@subject
def generate_midi(bench: Bench) -> Record:
    """Pieces of the tiny model: their ids follow from its weights, bit by bit."""
    bench.trained("midi")
    root = bench.corpus
    exact: Record = {}
    machine: Record = {}
    for name, words in (
        ("plain", ["--emotion", "grief", "--bars", "2", "--seed", "3"]),
        ("curve", ["--emotion", "0:grief;1:calm", "--bars", "2", "--guidance", "2"]),
        ("greedy", ["--emotion", "0.5,-0.5,0.5", "--bars", "1", "--temperature", "0"]),
        ("filters", ["--emotion", "joy", "--bars", "1", "--top-k", "20", "--min-p", "0.01", "--variations", "2",
                     "--repetition-penalty", "1.2"]),
        ("prompt", ["--emotion", "joy", "--bars", "3", "--prompt", "data/songs/midi/happy/song_00.mid",
                    "--keep-bars", "1"]),
    ):  # fmt: skip
        done = bench.kwela("generate", "midi", *words, "--out", f"{name}.mid", "--json", cwd=root)
        exact[name] = {"status": done["status"], "keys": [sorted(one) for one in done["json"]["made"]]}
        machine[name] = {path.name: sha256(path.read_bytes()) for path in sorted(root.glob(f"{name}*.mid"))}
        machine[name]["made"] = done["json"]["made"]
    done = bench.kwela("generate", "midi", "--emotion", "calm", "--bars", "1", "--roll", "a.png", "--render", "a.wav",
                       "--out", "a.mid", cwd=root)  # fmt: skip
    exact["pictures"] = [done["status"], {path.name: kind_of(path) for path in sorted(root.glob("a.*"))}]
    machine["pictures"] = done["stdout"]
    return {"exact": exact, "bits": machine}


@subject
def smoke_set(bench: Bench) -> Record:
    """Training where there is no data: the warning, the set that stands in, its manifests."""
    root = made_inputs.checkout(bench.folder / "smoke")
    small = ["--set", "training.max_steps=2", "--epochs", "1", "--out", "out"]
    said = bench.kwela("train", "midi", "--preset", "tiny", "--device", "cpu", *small, cwd=root)
    rows = {path.name: path.read_text().splitlines() for path in sorted(root.glob("data/smoke/manifests/*.jsonl"))}
    sounds = [sha256(path.read_bytes()) for path in sorted((root / "data/smoke").rglob("*.mid"))]
    return {
        "exact": {
            "warning": said["stdout"][:2],
            "rows": {name: [len(lines), lines[0]] for name, lines in rows.items()},
            "midi_sha256": sha256("".join(sounds).encode()),
            "files": files_in(root / "runs"),
        }
    }


@subject
def train_musicgen(bench: Bench) -> Record:
    """A fine-tune of the stand-in base, its check, its artefacts and a clip of it."""
    root = made_inputs.checkout(bench.folder / "musicgen")
    made_inputs.musicgen_table(root / "ai-service" / "datasets" / "amapiano_proxy")
    words = ["train", "musicgen", "--preset", "tiny", "--device", "cpu", "--workers", "1", "--set", "data.seconds=0.5"]
    checked = bench.kwela(*words, "--check", cwd=root)
    steps = ["--set", "training.log_every=1", "--set", "training.max_steps=3", "--out", "tuned"]
    done = bench.kwela(*words, *steps, cwd=root)
    assert done["status"] == 0, bench.err
    found = _run(bench, root / "tuned", root)
    found["bits"].pop("data_hash")
    found["exact"]["check"] = [line for line in checked["stdout"] if not line.startswith("Memory")]
    found["exact"]["last_line"] = done["stdout"][-2:][0].partition(":")[0]
    log = (root / "ai-service" / "training_logs" / "training.log").read_text()
    found["exact"]["log"] = [re.sub(r"\d+(\.\d+)?(e-\d+)?", "N", line) for line in log.splitlines()][:6]
    more = ["--duration", "0.3", "--prompt", "drums", "--out", "made", "--spectrogram", "--json"]
    made = bench.kwela("generate", "audio", "--model", "tuned/best_model.pt", *more, cwd=root)
    found["exact"]["generate"] = {"keys": sorted(made["json"]), "files": files_in(root / "made")}
    wave, rate = soundfile.read(root / "made" / "test_output_1.flac", dtype="int16")
    found["exact"]["sound"] = [len(wave), rate]
    found["bits"]["sound_sha256"] = sha256(wave.tobytes())
    return found


@subject
def exports(bench: Bench) -> Record:
    """The exported files with their evidence, and the grammar that a host plays by."""
    bench.trained("midi"), bench.trained("spectocloud")
    said = bench.kwela("export", "--all", "--json", cwd=bench.corpus)
    out = bench.corpus / "exports"
    exact: Record = {"status": said["status"], "files": files_in(out)}
    for path in sorted(out.glob("*.json")):
        found = json.loads(path.read_text())
        if path.name == "grammar.json":
            exact["grammar_sha256"] = sha256(path.read_bytes())
        elif "sha256" in found:
            keep = ("format", "inputs", "outputs", "opset", "shapes_tested", "tolerance", "licence", "not_checked")
            exact[path.name] = {key: found[key] for key in keep if key in found} | {"keys": sorted(found)}
    return {"exact": exact}


# ----------------------------------------------------------------------------- judges


def _judged(bench: Bench, kind: str, *words: object, cwd: Path | None = None, out: str = "") -> Record:
    """A judge's JSON, its files and the headings of its page."""
    place = (cwd or bench.folder) / (out or f"judged_{kind}")
    done = bench.kwela("judge", kind, *words, "--out", place, "--json", cwd=cwd)
    assert done["status"] == 0, bench.err
    page = [line for line in (place / f"{kind}.md").read_text().splitlines() if line.startswith("#")]
    card = done["json"]
    card.pop("checkpoint_sha256", None)
    written = json.loads((place / f"{kind}.json").read_text())
    written.pop("checkpoint_sha256", None)
    same = written == card
    tables = {name: [row["row"] for row in rows] for name, rows in card["tables"].items()}
    exact = {"keys": sorted(card), "tables": tables, "files": files_in(place), "page": page, "file_is_json": same}
    return {"exact": exact, "bits": {"card": card}}


def _together(parts: dict[str, Record]) -> Record:
    kinds = ("exact", "arithmetic", "trained", "bits")
    return {k: {name: part[k] for name, part in parts.items() if k in part} for k in kinds}


@subject
def judge_damage(bench: Bench) -> Record:
    root = bench.folder / "damage"
    for number, name in enumerate(("base", "tuned", "training", "unseen")):
        made_inputs.clip_folder(root / name, ("bass", "choir"), 10, first=100 * number)
    for number in range(10):  # names pair the sides
        for side, first in (("base", 0), ("tuned", 100)):
            (root / side / f"artist {first + number}-00.wav").rename(root / side / f"prompt {number:02}.wav")
    shutil.copy(root / "training" / "artist 203-00.wav", root / "tuned" / "prompt 04.wav")
    sides = ["--base", root / "base", "--tuned", root / "tuned"]
    known = ["--training", root / "training", "--unseen", root / "unseen"]
    few = bench.folder / "damage_few"
    made_inputs.clip_folder(few, ("bass",), 3)
    return _together(
        {
            "full": _judged(bench, "damage", *sides, *known, out="damage_full"),
            "quick": _judged(bench, "damage", *sides, "--quick", "--seed", "1", out="damage_quick"),
            "few": _judged(bench, "damage", "--base", few, "--tuned", root / "tuned", out="damage_few_out"),
        }
    )


def _styles(bench: Bench) -> Path:
    root = bench.folder / "styles"
    if not root.is_dir():
        made_inputs.clip_folder(root / "reference", ("bass",), 20, 2)
        made_inputs.clip_folder(root / "contrast", ("beat", "choir"), 20, 2, first=100)
        made_inputs.clip_folder(root / "samples", ("bass", "bass", "bass", "beat"), 40, first=200)
        made_inputs.clip_folder(root / "base", ("choir", "beat", "bass", "beat"), 40, first=300)
        for number in range(40):
            for side, first in (("samples", 200), ("base", 300)):
                clip = root / side / f"artist {first + number}-00.wav"
                clip.rename(root / side / f"prompt {number:02}.wav")
    return root


def _authenticity(bench: Bench, *more: object, reference: bool = True, out: str) -> Record:
    root = _styles(bench)
    words: list[object] = ["--contrast", root / "contrast", "--samples", root / "samples"]
    words += ["--reference", root / "reference"] if reference else []
    return _judged(bench, "authenticity", *words, *more, out=out)


@subject
def judge_authenticity_quick(bench: Bench) -> Record:
    few = made_inputs.clip_folder(bench.folder / "few", ("bass",), 6)
    root = _styles(bench)
    sheet = bench.folder / "sheet.csv"
    parts = {
        "base": _authenticity(bench, "--base", root / "base", "--quick", "--sheet", sheet, out="auth_quick"),
        "no_reference": _authenticity(bench, "--quick", reference=False, out="auth_none"),
        "few": _authenticity(bench, "--reference", few, "--quick", reference=False, out="auth_few"),
    }
    parts["base"]["exact"]["sheet"] = sheet.read_text().splitlines()[0]
    return _together(parts)


@subject
def judge_authenticity(bench: Bench) -> Record:
    return _authenticity(bench, "--base", _styles(bench) / "base", out="auth_full")


@subject
def judge_clouds(bench: Bench) -> Record:
    bench.trained("spectocloud")
    quick = _judged(bench, "clouds", "--quick", cwd=bench.corpus)
    return _together({"quick": quick})


@subject
def judge_clouds_full(bench: Bench) -> Record:
    bench.trained("spectocloud")
    return _judged(bench, "clouds", cwd=bench.corpus, out="judged_clouds_full")


@subject
def judge_midi(bench: Bench) -> Record:
    bench.trained("midi")
    found = _judged(bench, "midi", "--quick", cwd=bench.corpus)
    found["exact"]["twin"] = bench.kwela("judge", "twin", "--out", "twin.jsonl", cwd=bench.corpus)
    found["exact"]["twin_rows"] = (bench.corpus / "twin.jsonl").read_text().splitlines()
    return found


# ----------------------------------------------------------------------------- campaigns


def _seal(row: Record) -> str:
    """A row of a ledger as its line: JSON with the first 16 digits of the body's SHA-256 last."""
    body = json.dumps(row)
    return f'{body[:-1]}, "sum": "{sha256(body.encode())[:16]}"}}\n'


def _made_campaign(folder: Path) -> Path:
    """Ten days of a campaign, an hour a line, without a gate; the times are fixed."""
    made_inputs.campaign_config(folder, budget_usd=500, week_5_threshold_days=35)
    (folder / "ck").mkdir()
    settings = {"model_name": "facebook/musicgen-small", "dataset_dir": "../datasets", "speed": 1.0}
    money = {"budget_usd": 500.0, "setup_usd": 25.0, "began": None}
    rows: list[Record] = [{"kind": "campaign", "at": 1.7e9, "id": "0011aabb", "settings": settings, **money}]
    for number, (market, price) in enumerate((("spot", 0.39), ("on-demand", 1.3))):
        begun = 1.7e9 + number * 5 * 86400
        machine = {"instance": f"i-{number}", "market": market, "price": price, "disk_gb": 100.0, "disk_usd": 0.08}
        for hour in range(1, 101, 3):
            passed = hour * 3600.0
            times = {"from": begun, "to": begun + passed, "seconds": passed, "up": passed, "awake": passed}
            step = 10 * (hour + 100 * number)
            span = {"kind": "span", "span": f"aa{number}", "boot": str(number), **machine, **times}
            rows.append({**span, "step": step, "why": ""})
    (folder / "ck" / "ledger.jsonl").write_text("".join(map(_seal, rows)))
    metrics: list[Record] = [{"step": 0, "epoch": 1, "split": "val", "val_loss": 3.5}]
    metrics += [{"step": 10 * k, "epoch": 1, "split": "train", "loss": 4.5 - k / 240} for k in range(1, 200)]
    (folder / "ck" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    (folder / "ck" / "run.json").write_text(json.dumps({"steps": 9600}))
    return folder


def _held_campaign(folder: Path, name: str) -> Path:
    """A campaign that ran to its end before: its files, and sounds where its samples were."""
    source = Path(__file__).with_name("inputs") / name
    changes = json.loads((source / "changes.json").read_text())
    made_inputs.campaign_config(folder, **changes)
    shutil.copytree(source / "ck", folder / "ck", copy_function=shutil.copyfile)  # new files: written just now
    for side in ("base", "tuned"):
        for number in range(3):
            place = folder / "ck" / "evaluation" / side / f"test_output_{number + 1}.wav"
            place.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(place, made_inputs.clip("bass", number, 0, 1.0), 16_000)
    (folder / "ck" / "best_model.pt").write_bytes(b"weights")
    return folder


@subject
def campaign_ahead(bench: Bench) -> Record:
    """What is said before any money is spent: plan, simulation, the names of the checks."""
    root = made_inputs.checkout(bench.folder / "ahead")
    exact: Record = {}
    arithmetic: Record = {}
    for name, words in (
        ("plan", ["plan"]),
        ("plan_by_throughput", ["plan", "--throughput", "0.5"]),
        ("simulate", ["simulate", "--runs", "40"]),
        ("simulate_on_demand", ["simulate", "--runs", "20", "--market", "on-demand", "--seed", "3"]),
    ):
        exact[name] = bench.kwela("campaign", *words, cwd=root)
        arithmetic[name] = _money(bench.kwela("campaign", *words, "--json", cwd=root)["json"])
    checked = bench.kwela("campaign", "check", "--json", "--mbps", "50", cwd=root)
    text = "\n".join(checked["stdout"])
    exact["checks"] = [item["name"] for item in json.loads(text)["checks"]] if text else [checked["status"]]
    return {"exact": exact, "arithmetic": arithmetic}


def _money(value: Any) -> Any:
    """Rename the keys of hours and dollars, which elsewhere are durations of this run."""
    if isinstance(value, dict):
        return {f"{key}_" if key in VOLATILE else key: _money(item) for key, item in value.items()}
    return [_money(item) for item in value] if isinstance(value, list) else value


@subject
def campaign_files(bench: Bench) -> Record:
    """Status, report and extension of three campaigns: under way, ended with GO, ended with NO-GO."""
    exact: Record = {}
    arithmetic: Record = {}
    for name in ("under_way", "go", "no_go"):
        folder = bench.folder / f"campaign_{name}"
        folder.mkdir()
        _made_campaign(folder) if name == "under_way" else _held_campaign(folder, f"campaign_{name}")
        given = ["--config", "config.json"]
        exact[name] = {"status": bench.kwela("campaign", "status", *given, cwd=folder)}
        status = bench.kwela("campaign", "status", *given, "--json", cwd=folder)
        arithmetic[name] = {"status": _money(status["json"])}
        report = bench.kwela("campaign", "report", *given, "--json", cwd=folder)
        for item in report["json"]["deliverables"]:
            item.pop("sha256")  # the report names the minute in which it was written
        exact[name]["report"] = report["json"]
        for page in sorted([*folder.glob("ck/report/*.md"), *folder.glob("ck/deliverables/*.md")]):
            exact[name][page.name] = [re.sub(r"[\d,]+ \| [0-9a-f]{16}", "BYTES | HASH", line)
                                      for line in page.read_text().splitlines()]  # fmt: skip
        exact[name]["files"] = {file: kind_of(folder / "ck" / file) for file in files_in(folder / "ck")}
        extended = bench.kwela("campaign", "extend", "--to", "9000", *given, cwd=folder)
        last = json.loads((folder / "ck" / "ledger.jsonl").read_text().splitlines()[-1])
        exact[name]["extend"] = [extended, {key: v for key, v in last.items() if key not in ("at", "sum")}]
        less = bench.kwela("campaign", "extend", "--to", "100", *given, cwd=folder)
        exact[name]["extend_to_less"] = less["status"]
    return {"exact": exact, "arithmetic": arithmetic}

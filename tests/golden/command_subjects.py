"""Golden records of commands that compute little: codec, manifests, data sets, clouds."""

from __future__ import annotations

import json
import re
import shutil
from enum import Enum
from typing import Any

import made_inputs
import numpy as np
from bench import Bench, Record, files_in, kind_of, sha256, subject

SEEDS = range(6)
EMOTIONS = [
    "grief",
    "calm",
    "joy",
    "neutral",
    "anger_t6",
    "data/happy/track.wav",
    "track_sad_01.mid",
    "unhappy.wav",
]


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
    """A parameter in a line: options, type, range, default, whether it is required or may be repeated."""
    kind, limits = (
        _type_name(one.type_descriptor.annotation),
        [getattr(one, "min", None), getattr(one, "max", None)],
    )
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
    return re.sub(
        r"\w+\.(?=\w)", "", annotation.__name__ if isinstance(annotation, type) else str(annotation)
    )


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
    exact["encode"] = sha256(
        "\n".join(bench.kwela("tokens", "encode", "0.mid", cwd=folder)["stdout"]).encode()
    )
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
        (
            ("happy", []),
            ("calm", ["--start", "1.5"]),
            ("sad", ["--offset", "0.2"]),
            ("angry", ["--emotion", "grief"]),
        )
    ):
        song = f"{mood}/song_{number:02}"
        outs = [f"{number}.{kind}" for kind in ("npy", "ply")]
        words = [f"audio/{song}.wav", "--midi", f"midi/{song}.mid", *more]
        said = bench.kwela("cloud", "target", *words, *(w for out in outs for w in ("--out", out)), cwd=root)
        exact[song] = {"said": said, "kinds": {out: kind_of(root / out) for out in outs}}
        for part in (f"{number}.npy", f"{number}.attributes.npy"):
            cloud = np.load(root / part)
            exact[song][part] = [list(cloud.shape), str(cloud.dtype)]
            arithmetic[part] = figures(cloud)
            machine[part] = sha256(cloud.tobytes())
        machine[f"{number}.ply"] = sha256((root / f"{number}.ply").read_bytes())
    words = [word for kind in ("png", "html") for word in ("--out", f"drawn.{kind}")]
    exact["render"] = bench.kwela("cloud", "render", "0.npy", *words, cwd=root)
    exact["drawn"] = {path.name: kind_of(path) for path in sorted(root.glob("drawn.*"))}
    return {"exact": exact, "arithmetic": arithmetic, "bits": machine}


def figures(cloud: np.ndarray) -> Record:
    return {
        "mean": np.round(cloud.mean(0, np.float64), 6).tolist(),
        "std": np.round(cloud.std(0, dtype=np.float64), 6).tolist(),
        "some_points": np.round(cloud[::400].astype(float), 5).tolist(),
    }

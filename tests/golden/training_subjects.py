"""Golden records of tiny training runs, and of what is generated and exported from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import made_inputs
import numpy as np
import soundfile
from bench import VOLATILE, Bench, Record, files_in, kind_of, sha256, subject
from command_subjects import figures


def _run(bench: Bench, folder: Path, root: Path) -> Record:
    """What a run left: its files, lines of metrics, its checkpoint's shape, and the hash of its weights."""
    import torch

    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
    weights = {name: tensor.cpu().numpy() for name, tensor in sorted(state["model"].items())}
    about = json.loads((folder / "run.json").read_text())
    status = json.loads((folder / "status.json").read_text())
    plain = {
        key: state[key] for key in ("format", "family", "tokenizer_hash", "progress", "stopping", "scheduler")
    }
    return {
        "exact": {
            "files": files_in(folder),
            "status": status,
            "run": {
                "keys": sorted(about),
                "config": about["config"],
                "batch": about["batch"],
                "steps": about["steps"],
            },
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
            "weights": {
                name: [float(np.abs(array).mean())] for name, array in weights.items() if array.size > 64
            },
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
    found["exact"]["compare"] = bench.kwela(
        "cloud", "compare", "--row", "2", "--out", "pair.html", cwd=bench.corpus
    )
    cloud = np.load(bench.corpus / "seen.npy")
    found["trained"]["predicted"] = figures(cloud)
    found["bits"]["predicted_sha256"] = sha256(cloud.tobytes())
    return found


@subject
def train_midi(bench: Bench) -> Record:
    folder = bench.trained("midi")
    found = _run(bench, folder, bench.corpus)
    found["bits"].pop("data_hash")
    again = bench.kwela("train", "midi", "--preset", "tiny", "--device", "cpu", cwd=bench.corpus)
    found["exact"]["again"] = again["stdout"][:1]
    more = bench.kwela("train", "midi", "--preset", "tiny", "--device", "cpu", "--epochs", "3",
                       "--out", "longer", "--resume", folder / "last.pt", "--json",
                       cwd=bench.corpus)  # fmt: skip
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
        ("filters", ["--emotion", "joy", "--bars", "1", "--top-k", "20", "--min-p", "0.01",
                     "--variations", "2", "--repetition-penalty", "1.2"]),
        ("prompt", ["--emotion", "joy", "--bars", "3", "--prompt", "data/songs/midi/happy/song_00.mid",
                    "--keep-bars", "1"]),
    ):  # fmt: skip
        done = bench.kwela("generate", "midi", *words, "--out", f"{name}.mid", "--json", cwd=root)
        exact[name] = {"status": done["status"], "keys": [sorted(one) for one in done["json"]["made"]]}
        machine[name] = {path.name: sha256(path.read_bytes()) for path in sorted(root.glob(f"{name}*.mid"))}
        machine[name]["made"] = done["json"]["made"]
    done = bench.kwela("generate", "midi", "--emotion", "calm", "--bars", "1", "--roll", "a.png",
                       "--render", "a.wav", "--out", "a.mid", cwd=root)  # fmt: skip
    exact["pictures"] = [done["status"], {path.name: kind_of(path) for path in sorted(root.glob("a.*"))}]
    machine["pictures"] = done["stdout"]
    return {"exact": exact, "bits": machine}


@subject
def smoke_set(bench: Bench) -> Record:
    """Training where there is no data: the warning, the set that stands in, its manifests."""
    root = made_inputs.checkout(bench.folder / "smoke")
    small = ["--set", "training.max_steps=2", "--epochs", "1", "--out", "out"]
    said = bench.kwela("train", "midi", "--preset", "tiny", "--device", "cpu", *small, cwd=root)
    rows = {
        path.name: path.read_text().splitlines() for path in sorted(root.glob("data/smoke/manifests/*.jsonl"))
    }
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
    words = [
        "train",
        "musicgen",
        "--preset",
        "tiny",
        "--device",
        "cpu",
        "--workers",
        "1",
        "--set",
        "data.seconds=0.5",
    ]
    checked = bench.kwela(*words, "--check", cwd=root)
    steps = ["--set", "training.log_every=1", "--set", "training.max_steps=3", "--out", "tuned"]
    done = bench.kwela(*words, *steps, cwd=root)
    assert done["status"] == 0, bench.err
    found = _run(bench, root / "tuned", root)
    found["bits"].pop("data_hash")
    # The family's hash is that of the stand-in's random weights, whose last bits differ from CPU to CPU.
    found["bits"]["tokenizer_hash"] = found["exact"]["checkpoint"]["format"].pop()
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
            keep = (
                "format",
                "inputs",
                "outputs",
                "opset",
                "shapes_tested",
                "tolerance",
                "licence",
                "not_checked",
            )
            exact[path.name] = {key: found[key] for key in keep if key in found} | {"keys": sorted(found)}
    return {"exact": exact}

"""Record checkpoints, exports and a campaign with the code of an older checkout, for tests/test_recorded.py.

Run `python make.py CHECKOUT`, where CHECKOUT is a clean clone at the commit that README.md names. It replaces
`files.tar.xz` and `expected.json` beside this script. The commands run in a folder of their own (`--place`),
since a checkpoint holds the absolute paths of its manifests: choose a path that says nothing about the
machine. The folder must not exist.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soundfile
import torch
from safetensors.torch import load_file, save_file
from symusic import Note, Score, Tempo, Track

HERE = Path(__file__).resolve().parent
PACKED = HERE / "files.tar.xz"
SONGS = {"ada": (0.6, 0.5, 0.8), "bea": (-0.6, -0.4, 0.4), "cleo": (0.3, -0.5, 0.2), "dora": (-0.5, 0.7, 0.9),
         "edda": (0.1, 0.2, 0.6)}  # fmt: skip
HELD_OUT = "edda"
SECONDS, RATE = 1.75, 8_000

# What every recorded run has in common: no previews, a figure a step, and a stop in the middle.
COMMON = {"training.log_every": 1, "training.save_every": 1000, "training.epochs": 12, "training.min_epochs": 0,
          "training.early_stopping.enabled": False, "data.batch_size": 2, "scheduler.warmup_steps": 4}  # fmt: skip
RUNS: dict[str, dict[str, Any]] = {
    "spectocloud": {"folder": "spectocloud", "settings": {"model.width": 8, "model.depth": 1}},
    "midi": {
        "folder": "midi_generator",
        "settings": {"model.layers": 1, "model.width": 16, "model.heads": 1, "model.window": 64},
    },
    "musicgen": {
        "folder": "musicgen",
        "settings": {
            "model.tuning": "lora",
            "model.rank": 2,
            "model.dropout": 0.1,
            "data.seconds": 1.0,
            "training.ema.enabled": True,
        },
    },
}
STOP_AT = 9  # the step from which a run is asked to stop; it has 24

# Runs at the start of every recorded process, so that nothing names this machine.
NEUTRAL = """
import platform
platform.node = lambda: "recorder"
platform.platform = lambda *a, **k: "Linux"
from kwela.campaign import clock
clock._boot = lambda: "the boot of the recorder"
"""

CAMPAIGN_SPEED = 20
CAMPAIGN_SETTINGS = {
    "training.save_every": 1000, "model.tuning": "lora", "model.rank": 2, "data.seconds": 1.0, "data.batch_size": 2,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--place", type=Path, default=Path("/recorded"))
    arguments = parser.parse_args()
    checkout, place = arguments.checkout.resolve(), arguments.place
    place.mkdir()
    try:
        record(checkout, place)
    finally:
        shutil.rmtree(place)


def record(checkout: Path, place: Path) -> None:
    for name in ("scripts", "training"):
        shutil.copytree(checkout / name, place / name)
    shutil.copy(checkout / "pyproject.toml", place)
    (place / "neutral").mkdir()
    (place / "neutral" / "sitecustomize.py").write_text(NEUTRAL)
    runner = Runner(checkout, place)
    write_data(place)
    write_base(runner)
    expected: dict[str, Any] = {"cpu": cpu(), "torch": torch.__version__, "runs": {}}
    for family in RUNS:
        expected["runs"][family] = record_run(runner, family)
    exports = ["--spectocloud", "checkpoints/spectocloud/last.pt"]
    exports += ["--midi-generator", "checkpoints/midi_generator/last.pt", "--out", "exports"]
    runner.run("export", *exports)
    expected["export"] = ["export", *exports]
    expected["exports"] = {path.name: outputs(path) for path in sorted((place / "exports").glob("*.onnx"))}
    expected["campaign"] = record_campaign(runner)
    keep(place, expected)


class Runner:
    """Runs the checkout's commands in `place`."""

    def __init__(self, checkout: Path, place: Path) -> None:
        self.place = place
        paths = f"{place / 'neutral'}:{checkout / 'src'}"
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.environment = os.environ | threads | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        print("kwela", *words, flush=True)
        command = [sys.executable, "-m", "kwela", *words]
        return subprocess.Popen(command, cwd=self.place, env=self.environment, text=True)

    def run(self, *words: str, status: int = 0) -> None:
        assert self.start(*words).wait() == status, words


def write_data(place: Path) -> None:
    """Write five short songs, the manifests of the V2 families, and a campaign's folder with its training
    table.
    """
    data = place / "data" / "recorded"
    data.mkdir(parents=True)
    rows: dict[str, list[str]] = {
        "spectocloud_train": [],
        "spectocloud_val": [],
        "midi_train": [],
        "midi_val": [],
    }
    table = ["clip_id,file_path,amapiano_proxy_score,tags,duration,split,artist"]
    for number, (name, emotion) in enumerate(SONGS.items()):
        write_song(data, name, number)
        side = "val" if name == HELD_OUT else "train"
        facts = {"midi_path": f"{name}.mid", "emotion": emotion, "emotion_source": "user", "group": name}
        rows[f"midi_{side}"].append(json.dumps(facts))
        rows[f"spectocloud_{side}"].append(json.dumps({"audio_path": f"{name}.flac", **facts, "offset": 0.0}))
        audio = f"../../../data/recorded/{name}.flac"
        table.append(f'{number},{audio},3,"piano,slow",{SECONDS},{side},{name}')
    for manifest, lines in rows.items():
        (data / f"{manifest}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    proxy = place / "campaign" / "datasets" / "amapiano_proxy"
    proxy.mkdir(parents=True)
    (proxy / "training_metadata.csv").write_text("".join(f"{line}\n" for line in table))
    config = {
        "model_name": "tiny", "dataset_dir": "datasets",
        "checkpoint_dir": "checkpoints/phase_2_5", "tensorboard_dir": "runs/phase_2_5",
        "num_epochs": 100, "batch_size": 2, "gradient_accumulation_steps": 1, "learning_rate": 0.003,
        "warmup_steps": 4, "log_every_n_steps": 5, "eval_every_n_steps": 20, "save_every_n_steps": 10,
        "gpu_cost_per_hour": 0.01, "budget_usd": 5000, "week_5_threshold_days": 999, "plan_days": 1000,
        "gate_at_fraction": 0.2, "setup_cost_usd": 0, "disk_gb": 0, "reserve_minutes": 30,
        "go_nogo_thresholds": {"max_val_loss": 9.0},
        "proxy_groups": {"keys": ["piano"]}, "prompt_templates": ["{tags}"],
        "flags": {"disk_filling": {"free_gb": 1e9}},
    }  # fmt: skip
    (place / "campaign" / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def write_base(runner: Runner) -> None:
    """Build MusicGen's stand-in where the commands look for it, with weights of 16 bits: half the bytes to
    keep.
    """
    place = runner.place / "cache" / "musicgen" / "base"
    build = (
        "import sys; from pathlib import Path; from kwela.musicgen import tiny; tiny.build(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", build, str(place)], env=runner.environment, check=True)
    for path in place.glob("*/model.safetensors"):
        halves = {
            name: value.half() if value.is_floating_point() else value
            for name, value in load_file(path).items()
        }
        save_file(halves, path, {"format": "pt"})


def write_song(folder: Path, name: str, number: int) -> None:
    """Write NAME.mid and NAME.flac: the same notes, sung by decaying harmonics."""
    rng = np.random.default_rng(number)
    score, track = Score(480), Track(program=8 * number)
    score.tempos.append(Tempo(0, qpm=120))
    time_axis = np.arange(int(SECONDS * RATE)) / RATE
    wave = np.zeros_like(time_axis)
    for eighth in range(int(SECONDS * 4)):
        pitch, velocity = int(rng.integers(48, 76)), int(rng.integers(50, 110))
        track.notes.append(Note(eighth * 240, 240, pitch, velocity))
        age = time_axis - eighth / 4
        envelope = ((age >= 0) & (age < 0.25)) * np.exp(-4 * np.clip(age, 0, None)) * velocity / 127
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        wave += sum(0.2 / h * envelope * np.sin(2 * np.pi * h * hertz * age) for h in range(1, 4))
    score.tracks.append(track)
    score.dump_midi(str(folder / f"{name}.mid"))
    soundfile.write(folder / f"{name}.flac", wave.astype(np.float32), RATE, "PCM_16")


def record_run(runner: Runner, family: str) -> dict[str, Any]:
    """Stop a run in the middle, keep that folder, go on in a copy of it, and return what the whole run ended
    with.
    """
    place, folder = runner.place, Path("checkpoints") / RUNS[family]["folder"]
    settings = COMMON | RUNS[family]["settings"]
    if family == "musicgen":
        words = ["--config", "campaign/config.json"]
    else:
        settings |= {
            f"data.{side}_manifest": f"data/recorded/{family}_{side}.jsonl" for side in ("train", "val")
        }
        words = []
    words = ["train", family, *words, "--preset", "tiny", "--device", "cpu"]
    for key, value in settings.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    process = runner.start(*words, "--out", str(folder))
    while last_step(place / folder) < STOP_AT:
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    stopped = json.loads((place / folder / "status.json").read_text())["step"]
    # The base code goes on in another folder without a stop from the start: the figures to reach.
    whole = folder.with_name(f"{folder.name}_whole")
    runner.run(*words, "--out", str(whole))
    finished = json.loads((place / whole / "status.json").read_text())["step"]
    assert stopped < finished - 5, (stopped, finished)
    facts = {"command": words, "folder": str(folder), "stopped": stopped, "finished": finished}
    return facts | {"model": model_hash(place / whole / "last.pt"), "losses": losses(place / whole)}


def record_campaign(runner: Runner) -> dict[str, Any]:
    """Begin a campaign that its gate holds in the middle, since there is no music to judge it by."""
    words = ["campaign", "run", "--config", "campaign/config.json", "--preset", "tiny", "--device", "cpu"]
    words += ["--speed", str(CAMPAIGN_SPEED)]
    for key, value in CAMPAIGN_SETTINGS.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    runner.run(*words, status=5)
    folder = Path("campaign/checkpoints/phase_2_5-rehearsal")
    state = json.loads((runner.place / folder / "orchestrator_state.json").read_text())
    steps = json.loads((runner.place / folder / "run.json").read_text())["steps"]
    assert (
        0 < state["step"] < steps - 20 and state["gate"] == "HOLD" and state["flags"] == ["disk_filling"]
    ), state
    return {"command": words, "folder": str(folder), "stopped": state["step"], "finished": steps}


def last_step(folder: Path) -> int:
    try:
        return int(json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"])
    except (FileNotFoundError, IndexError, json.JSONDecodeError):
        return 0


def losses(folder: Path) -> dict[str, dict[str, float]]:
    """Split -> step -> loss, of metrics.jsonl."""
    found: dict[str, dict[str, float]] = {"train": {}, "val": {}}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        found[row["split"]][str(row["step"])] = row["loss" if row["split"] == "train" else "val_loss"]
    return found


def model_hash(path: Path) -> str:
    """SHA-256 of a checkpoint's weights, in order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(torch.load(path, weights_only=True)["model"].items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def cpu() -> str:
    """The processor's name, family and model, and the instructions that torch uses: what equal bits depend
    on.
    """
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    parts = dict(
        tuple(part.strip() for part in line.split(":", 1)) for line in reversed(lines) if ":" in line
    )
    named = [parts[key] for key in ("model name", "cpu family", "model") if key in parts] or [
        platform.machine()
    ]
    return " / ".join([*named, torch.backends.cpu.get_cpu_capability()])


def outputs(path: Path) -> dict[str, list[float]]:
    """The mean, the deviation and the first number of each output, for inputs that any machine can make
    again.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    sizes = {"batch": 1, "length": 8, "past": 0}
    feeds = {}
    for given in session.get_inputs():
        shape = [sizes[size] if isinstance(size, str) else size for size in given.shape]
        count = int(np.prod(shape))
        ramp = np.arange(count).reshape(shape)
        feeds[given.name] = ramp % 3 if given.type == "tensor(int64)" else np.sin(ramp).astype(np.float32)
    found = session.run(None, feeds)
    names = [given.name for given in session.get_outputs()]
    return {
        name: [float(value.mean()), float(value.std()), float(value.flat[0])]
        for name, value in zip(names, found, strict=True)
    }


def keep(place: Path, expected: dict[str, Any]) -> None:
    """Pack what the test needs, without locks, logs and curves."""
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files"
        unwanted = shutil.ignore_patterns("*.lock", "lock", "*_whole", "runs", "training_logs", "*.png")
        for name in ("data", "checkpoints", "exports", "campaign", "cache/musicgen"):
            shutil.copytree(place / name, files / name, ignore=unwanted)
        for run in RUNS.values():  # last.pt is what a run goes on from
            for path in (files / "checkpoints" / run["folder"]).glob("best*.pt"):
                path.unlink()
        pack(files)
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def pack(files: Path) -> None:
    """Write PACKED from the folder `files`. Equal files give equal bytes."""

    def neutral(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = 0
        return entry

    with tarfile.open(PACKED, "w:xz") as archive:
        archive.add(files, arcname=".", filter=neutral)


if __name__ == "__main__":
    main()

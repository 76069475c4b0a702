"""The playbook's commands of Days 2 to 8, typed as written, on a whole MagnaTagATune made from real music."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent / "corpus"))


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Path:
    """A clone's ai-service folder, with the collection's three zip parts where the playbook puts them."""
    import made_mtt_whole

    from kwela.corpus.demo import build as demo

    place = tmp_path_factory.mktemp("days")
    clone = place / "amapiano-ai"
    for name in ("src", "scripts", "ai-service", "training", "pyproject.toml"):
        source = ROOT / name
        ignored = shutil.ignore_patterns("datasets", "checkpoints", "runs", "training_logs", "__pycache__")
        if source.is_dir():
            shutil.copytree(source, clone / name, ignore=ignored)
        else:
            shutil.copy(source, clone / name)
    demo.build(place / "music", pieces=40, quiet=True)
    music = sorted((place / "music" / "audio").rglob("*.wav"))
    made_mtt_whole.make(clone / "ai-service/datasets/magnatagatune", music, clips=240)
    config = (
        clone / "ai-service/config.json"
    )  # no weights can be had in a test: the stand-in, which learns faster
    settings = json.loads(config.read_text()) | {"model_name": "tiny", "num_epochs": 2, "learning_rate": 3e-3}
    config.write_text(json.dumps(settings | {"warmup_steps": 5, "gradient_accumulation_steps": 1}, indent=2))
    return clone / "ai-service"


def typed(command: str, where: Path, status: int = 0) -> list[str]:
    """The lines of a shell command that must end with `status`. `python3` and `kwela` are this
    environment's.
    """
    source = next(folder / "src" for folder in where.parents if (folder / "pyproject.toml").is_file())
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(source),
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=where, env=env, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.full
def test_days_2_to_8_run_as_written(service):
    datasets = service / "datasets"
    typed("cat mp3.zip.* > mp3.zip && unzip -q mp3.zip", datasets / "magnatagatune")  # Days 2-3

    lines = typed("python3 dataset_setup.py", service)  # Day 4
    assert lines[0] == "Loaded 25,863 clips with 188 tag columns"
    assert "Filtered to 240 clips with ≥3 Amapiano proxy tags" in lines
    assert (
        "Copied 237/240 clips..." in lines and sum(line.startswith("left out: clip") for line in lines) == 3
    )
    with (datasets / "amapiano_proxy/training_metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 237 == len(list((datasets / "amapiano_proxy/audio").iterdir()))
    assert all(28.5 < float(row["duration"]) < 29.7 for row in rows)

    checked = typed("kwela train musicgen --check", service)  # Days 5-7
    assert any(line.startswith("Model loaded: MusicGen(") for line in checked)
    assert any(line.startswith("Device: ") for line in checked)
    assert f"Dataset rows: {len(rows)}" in checked and checked[-1] == "All checks passed"

    # Day 8, to its end. Nothing to judge authenticity by, and a loss that no stand-in reaches: the gate says
    # so.
    said = typed("python3 training_orchestrator.py --config config.json", service, status=3)
    assert said[:2] == ["=" * 50, "PHASE 2.5: MagnaTagATune Proxy Training"] and "Training complete!" in said
    assert "❌ NO-GO DECISION: Abort" in said and "  Est. Authenticity: not measured" in said
    log = (service / "training_logs/training.log").read_text().splitlines()
    assert any(line.startswith("Epoch 1/2 | Step 10 | Loss: ") and " | LR: " in line for line in log)
    saved = service / "checkpoints/phase_2_5"
    assert {"best_model.pt", "last.pt", "orchestrator_state.json"} <= {path.name for path in saved.iterdir()}
    state = typed(
        """python3 -c "import json; print(json.load(open('orchestrator_state.json'))['elapsed_time'])" """,
        saved,
    )
    assert float(state[0]) > 0

    typed(
        "kwela generate audio --model checkpoints/phase_2_5/best_model.pt --duration 3", service
    )  # the test prompts
    for number in (1, 2):
        wave, rate = soundfile.read(service / f"test_output_{number}.wav")
        assert rate == 32_000 and len(wave) == 3 * rate and abs(wave).max() > 0

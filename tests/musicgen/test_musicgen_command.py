"""`kwela train musicgen` and `kwela generate audio` as they are typed: lines, files, exit statuses."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import huggingface_hub
import musicgen_set
import pytest
import soundfile

import scratch
from kwela.musicgen import code_cache, data
from scratch import ROOT, kwela

TRAIN = ("train", "musicgen", "--preset", "tiny", "--device", "cpu", "--workers", "1")
SHORT = (
    *TRAIN,
    "--set",
    "data.seconds=0.5",
    "--set",
    "training.log_every=1",
    "--set",
    "training.max_steps=3",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, table: Path, stand_in: Path) -> Path:
    """A checkout with the playbook's config, and a few of the clips where `kwela dataset` would put them."""
    folder = scratch.make(tmp_path_factory.mktemp("musicgen") / "checkout")
    (folder / "ai-service").mkdir()
    shutil.copy(ROOT / "ai-service" / "config.json", folder / "ai-service")
    shutil.copytree(stand_in, folder / "cache/musicgen/base")
    clips = data.read_table(table)
    kept = [clip for side in ("train", "val") for clip in clips if clip.split == side][::3]
    rows = [[c.clip_id, c.path, 3, ",".join(c.tags), 10, c.split, c.artist] for c in kept]
    own = folder / "ai-service/datasets/amapiano_proxy/training_metadata.csv"
    own.parent.mkdir(parents=True)
    musicgen_set.write(own, rows)
    return folder


@pytest.fixture(scope="module")
def tuned(root: Path) -> Path:
    """The checkpoint folder of a finished run."""
    done = kwela(root, *SHORT, "--out", "tuned")
    assert done.status == 0, done.err
    (root / "said.txt").write_text(done.out)
    return root / "tuned"


def refused(done, *said: str) -> None:
    """One line on stderr, exit 2."""
    assert done.status == 2, done.out + done.err
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and done.err.strip().splitlines()[-1] == lines[0], done.err
    for words in said:
        assert words in lines[0]


# ------------------------------------------------------------------------ train


def test_a_run_says_the_playbooks_lines_and_leaves_its_files(root, tuned):
    said = (root / "said.txt").read_text()
    log = (root / "ai-service/training_logs/training.log").read_text()
    form = r"^Epoch 1/20 \| Step 1 \| Loss: \d\.\d+ \| LR: \d\.\d\de-\d\d"
    assert re.search(form, said, re.M) and re.search(form, log, re.M)
    assert re.search(r"^Memory plan: .* GB$", said, re.M)
    assert re.search(r"^Epoch 1/20 \| Step 0 \| Val Loss: \d", log, re.M)
    assert "Best model saved: tuned/best_model.pt\n" in said
    names = {path.name for path in tuned.iterdir()}
    assert {
        "best.pt",
        "last.pt",
        "best_model.pt",
        "metrics.jsonl",
        "run.json",
        "status.json",
        "model",
    } <= names
    assert json.loads((tuned / "status.json").read_text())["state"] == "finished"
    assert list((root / "ai-service/runs/tuned").glob("events*"))
    assert (tuned / "model/README.md").is_file() and (tuned / "model/model.safetensors").is_file()


def test_a_finished_run_says_so_and_more_epochs_go_on(root, tuned):
    done = kwela(root, *SHORT, "--out", "tuned")
    assert done.status == 0 and "Already finished at step 3" in done.out
    copy = shutil.copytree(tuned, root / "longer")
    done = kwela(root, *SHORT, "--out", "longer", "--set", "training.max_steps=5", "--epochs", "30", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["step"] == 5
    assert "Resuming from" in done.err and "at step 3" in done.err
    assert json.loads((copy / "run.json").read_text())["steps"] == 5


def test_an_estimate_says_hours_and_leaves_nothing(root):
    before = sorted(root.rglob("*.pt")), sorted((root / "ai-service").glob("*"))
    done = kwela(root, *SHORT, "--estimate", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["steps"] == 3
    assert (sorted(root.rglob("*.pt")), sorted((root / "ai-service").glob("*"))) == before


def test_check_prints_the_playbooks_rows_and_passes(root):
    done = kwela(root, *TRAIN, "--check")
    assert done.status == 0, done.err
    clips = data.read_table(root / "ai-service/datasets/amapiano_proxy/training_metadata.csv")
    tags = {tag for clip in clips for tag in clip.tags}
    lines = [line for line in done.out.splitlines() if not line.startswith(("Memory", "Resampled"))]
    assert re.fullmatch(r"Model loaded: MusicGen\(tiny, [\d,]+ of [\d,]+ weights tuned\)", lines[0])
    assert lines[1] == "Device: cpu (no GPU: training will be slow)"
    assert lines[2:4] == [f"Dataset rows: {len(clips)}", f"Unique tags: {len(tags)}"]
    assert lines[4].startswith("TensorBoard: tensorboard --logdir ") and lines[5] == "All checks passed"


def test_check_fails_with_the_reason(root, tmp_path):
    missing = tmp_path / "none.csv"
    done = kwela(root, *TRAIN, "--check", "--set", f"data.train_manifest={missing}")
    assert done.status == 1
    assert f"FAIL Dataset rows: {missing}: no such table" in done.out and "Some checks failed" in done.out
    assert "Model loaded" in done.out


def test_bad_input_is_one_line_and_leaves_nothing(root, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    out = tmp_path / "out"
    train = (*SHORT, "--out", str(out))
    own = root / "ai-service/datasets/amapiano_proxy/training_metadata.csv"
    for name, text in (
        ("untagged.csv", own.read_text().replace("tags", "labels")),
        ("gone.csv", own.read_text().replace(".flac", ".mp3")),
    ):
        (tmp_path / name).write_text(text)

    def with_table(name: str):
        at = tmp_path / name
        return kwela(root, *train, "--set", f"data.train_manifest={at}", "--set", f"data.val_manifest={at}")

    refused(with_table("none.csv"), "none.csv")
    refused(with_table("untagged.csv"), "untagged.csv", "no column tags")
    refused(with_table("gone.csv"), "no such clip", "kwela dataset")
    refused(
        kwela(root, *train, "--set", "model.base=facebook/musicgen-small"),
        "Place it by hand",
        "huggingface.co",
    )
    refused(kwela(root, *train, "--set", "model.base=/no/where"), "no such folder")
    refused(kwela(root, *train, "--set", 'data.prompt_templates=[" , "]'), "prompt_templates", "empty prompt")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/config.json").write_text("{}")
    refused(kwela(root, *train, "--set", f"model.base={tmp_path / 'bare'}"), "without weights")
    refused(kwela(root, "train", "midi", "--check"), "are for musicgen")
    assert not out.exists()


# ----------------------------------------------------------------------- ledger


def test_a_ledger_travels_in_the_checkpoint_and_comes_back(root):
    file, run = root / "ledger.jsonl", (*SHORT, "--out", "with_ledger", "--ledger", "ledger.jsonl")
    file.write_text("one\ntwo\n")
    done = kwela(root, *run)
    assert done.status == 0, done.err

    def longer(steps: int):
        return kwela(root, *run, "--set", f"training.max_steps={steps}")

    file.write_text("one\n")  # shorter, and its beginning
    assert longer(4).status == 0 and file.read_text() == "one\ntwo\n"
    file.unlink()
    assert longer(5).status == 0 and file.read_text() == "one\ntwo\n"
    file.write_text("one\ntwo\nthree\n")  # longer: the newer
    assert longer(6).status == 0 and file.read_text() == "one\ntwo\nthree\n"
    file.unlink()
    assert longer(7).status == 0 and file.read_text() == "one\ntwo\nthree\n"
    file.write_text("another campaign\n")
    refused(longer(8), "ledger.jsonl: a ledger of another campaign")
    assert file.read_text() == "another campaign\n"


# --------------------------------------------------------------------- generate


def test_without_options_it_is_the_campaigns_model_and_the_two_test_prompts(root, tuned, tmp_path):
    place = root / "ai-service/checkpoints/phase_2_5"
    refused(kwela(root, "generate", "audio"), "best_model.pt: no such checkpoint")
    place.mkdir(parents=True)
    shutil.copy(tuned / "best_model.pt", place)
    done = kwela(
        root, "generate", "audio", "--duration", "0.4", "--out", str(tmp_path), "--spectrogram", "--json"
    )
    assert done.status == 0, done.err
    took = json.loads(done.out)
    assert [one["prompt"] for one in took["samples"]] == [
        "Traditional amapiano with log drums and soulful piano",
        "Modern amapiano house with jazzy chord progressions",
    ]
    assert [one["seed"] for one in took["samples"]] == [42, 43]
    assert {path.name for path in tmp_path.iterdir()} == {
        f"test_output_{n}.{kind}" for n in (1, 2) for kind in ("wav", "flac", "png")
    }
    assert soundfile.info(tmp_path / "test_output_2.wav").duration == pytest.approx(0.4)


def test_without_the_extra_a_line_says_how_to_get_it(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(kwela(root, "generate", "audio"), "MusicGen needs transformers: pip install 'kwela[musicgen]'")
    refused(
        kwela(root, *SHORT, "--out", "lacking"), "MusicGen needs transformers: pip install 'kwela[musicgen]'"
    )


def test_every_kind_of_model_plays_and_its_report_is_said(root, tuned, tmp_path):
    common = ("--duration", "0.2", "--prompt", "drums", "--out", str(tmp_path))
    for source in ("tiny", str(tuned / "best_model.pt"), str(tuned / "model")):
        done = kwela(root, "generate", "audio", "--model", source, *common)
        assert done.status == 0, done.err
        assert done.out.splitlines()[0] == f"{tmp_path}/test_output_1.wav, .flac: drums (seed 42)"
        last = done.out.splitlines()[-1]
        assert re.match(
            r"First audio after [\d.]+ s; [\d.]+ s a second of audio; peak memory [\d,]+ MB on cpu", last
        )


def test_prompts_come_from_a_file_too(root, tmp_path):
    (tmp_path / "prompts.txt").write_text("drums\n\n  slow piano  \n")
    done = kwela(root, "generate", "audio", "--model", "tiny", "--duration", "0.1", "--prompts",
                 str(tmp_path / "prompts.txt"), "--prompt", "first", "--out", str(tmp_path), "--json")  # fmt: skip
    assert [one["prompt"] for one in json.loads(done.out)["samples"]] == ["first", "drums", "slow piano"]


def test_what_cant_be_generated_is_one_line_and_leaves_nothing(root, tuned, tmp_path, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    (tmp_path / "blank.txt").write_text("\n  \n")
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "out"

    def generate(*more: str, model: str = "tiny"):
        return kwela(root, "generate", "audio", "--model", model, "--out", str(out), *more)

    refused(generate("--prompt", " "), "a prompt is empty")
    refused(generate("--prompts", str(tmp_path / "blank.txt")), "no prompt in it")
    refused(generate("--prompts", str(tmp_path / "none.txt")), "none.txt")
    refused(generate("--duration", "0"), "--duration 0")
    refused(generate("--duration", "301"), "up to 300")
    refused(generate("--duration", "nan"), "--duration nan")
    refused(generate("--top-k", "0"))
    refused(generate("--device", "tpu"), "--device tpu")
    refused(generate(model="facebook/musicgen-small"), "Place it by hand")
    refused(generate(model=str(tmp_path / "none.pt")), "none.pt: no such checkpoint")
    refused(generate(model=str(tuned)), "no config.json")
    refused(generate("--duration", "0.1", "--out", str(tmp_path / "file" / "deeper")), "file")
    assert not out.exists()


def test_the_cache_is_filled_once_for_all_of_these(root):
    shards = list((root / "cache/musicgen").glob("*/codes/*.safetensors"))
    rows = data.read_table(root / "ai-service/datasets/amapiano_proxy/training_metadata.csv")
    assert len(shards) == -(-len(rows) // code_cache.CLIPS_PER_SHARD)

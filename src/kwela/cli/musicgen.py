"""`kwela train musicgen` and `kwela generate audio`: the playbook's Days 5 to 8 and its test prompts."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kwela.cli.output import Json, first_rank, speaking
from kwela.cli.prepare import PreparedTraining, TrainingRequest
from kwela.errors import KwelaError, UserError

if TYPE_CHECKING:
    import torch

    from kwela.engine.session import Extra
    from kwela.musicgen.config import MusicgenConfig
    from kwela.musicgen.task import MusicgenTask
    from kwela.playbook import PlaybookConfig

LOG = Path("training_logs/training.log")  # beside the config


def settings(
    file: Path | None, preset: str | None, overrides: list[str]
) -> tuple[MusicgenConfig, PlaybookConfig, Path]:
    """Read the training settings, the playbook's own settings, and the folder of its file."""
    from kwela import config, playbook
    from kwela.musicgen.config import MusicgenConfig

    path = playbook.find(file)
    folder = path.absolute().parent
    book = playbook.load(path)
    values = playbook.training(book, folder)
    return config.resolve(MusicgenConfig, values, path, preset=preset, overrides=overrides), book, folder


def prepare(request: TrainingRequest, workers: int | None, ledger: Path | None) -> PreparedTraining:
    """Prepare what the playbook's config says.

    workers: processes that fill the cache. ledger: a campaign's, to be kept in each checkpoint.

    Raises UserError for a config or a table that cannot be read, and without the extra "musicgen".
    """
    from kwela.corpus.pairs import rows

    chosen, book, beside = settings(request.config, request.preset, request.overrides)
    chosen.training.epochs = request.epochs or chosen.training.epochs
    task = _task(chosen, workers, request.device)
    folder, runs_dir = request.out or book.checkpoint_dir, book.tensorboard_dir
    if folder != book.checkpoint_dir:  # a rehearsal, or a run beside the campaign
        runs_dir = runs_dir.with_name(folder.name)
    return PreparedTraining(
        chosen,
        task,
        folder,
        runs_dir,
        rows.data_hash([chosen.data.train_manifest]),
        task.fingerprint,
        _session(ledger, beside, folder),
        lambda: _write_model_folder(folder, task),
    )


def stand_in() -> Path:
    """Where the small random model called "tiny" is kept."""
    from kwela import config

    return config.repo_root() / "cache/musicgen/base"


def _carried_ledger(file: Path) -> tuple[Callable[[], Extra], Callable[[Extra], None]]:
    """Return what puts a ledger into each checkpoint, and what restores it from one.

    The file is the newer one where it begins with the checkpoint's copy. Where it is the beginning of that
    copy, or is gone, the copy is written back. Restoring raises UserError if neither holds.
    """
    from kwela import files

    def keep() -> Extra:
        return {"ledger": file.read_text(encoding="utf-8") if file.is_file() else ""}

    def restore(extra: Extra) -> None:
        saved, here = str(extra.get("ledger", "")), keep()["ledger"]
        if here.startswith(saved):
            return
        if not saved.startswith(here):
            raise UserError(f"{file}: a ledger of another campaign than the checkpoint's; name that one's")
        files.write(file, saved)

    return keep, restore


def need_extra() -> None:
    """Raise UserError if a library that MusicGen needs is not installed."""
    for name in ("peft", "transformers"):
        if find_spec(name) is None:  # they take seconds to import
            raise UserError(f"MusicGen needs {name}: pip install 'kwela[musicgen]'")


def _task(chosen: MusicgenConfig, workers: int | None, device: str | None) -> MusicgenTask:
    need_extra()
    from kwela.musicgen.task import MusicgenTask

    say: Callable[[str], None] = print if first_rank() else lambda line: None
    return MusicgenTask(chosen, workers=workers, device=device, say=say)


def _session(ledger: Path | None, beside: Path, folder: Path) -> dict[str, Any]:
    """Return the fields of the engine's Session that only MusicGen sets. beside: the config's folder."""
    from kwela.campaign.money.ledger import NAME
    from kwela.musicgen import tuned_model

    extra, on_resume = _carried_ledger(ledger) if ledger else (None, None)
    return {
        "log": beside / LOG,
        "on_best": tuned_model.write_best_model,
        "extra": extra,
        "on_resume": on_resume,
        "bound": ledger is not None or (folder / NAME).is_file(),
    }


def _write_model_folder(folder: Path, task: MusicgenTask) -> None:
    """Write the folder `model` beside the best checkpoint, for transformers or peft."""
    from kwela.engine import checkpoint
    from kwela.musicgen import tuned_model

    report, table = None, task.config.data.train_manifest
    with contextlib.suppress(OSError, ValueError):  # without the report, the model card says less
        report = json.loads(table.with_name("dataset_report.json").read_text(encoding="utf-8"))
    place = tuned_model.export(folder / checkpoint.BEST, folder / "model", task.tiny_folder, report)
    print(f"For transformers and peft: {place}", flush=True)


def check(request: TrainingRequest, workers: int | None) -> bool:
    """Print the playbook's checks of Days 5 to 7 and whether each holds. Returns whether all of them hold."""
    from kwela.engine import ranks
    from kwela.musicgen.task import count_table

    chosen, book, _ = settings(request.config, request.preset, request.overrides)
    task = _task(chosen, workers, request.device)
    data = functools.cache(lambda: count_table(task))
    results = [
        _passes("Model loaded", lambda: _model(task)),
        _passes("Device", lambda: _device(ranks.pick(request.device, 0, 1))),
        _passes("Dataset rows", lambda: str(data()["rows"])),
        _passes("Unique tags", lambda: str(data()["tags"])),
        _passes("TensorBoard", lambda: _tensorboard(book.tensorboard_dir)),
    ]
    print("All checks passed" if all(results) else "Some checks failed", flush=True)
    return all(results)


def _passes(name: str, result: Callable[[], str]) -> bool:
    """Print one check's result, or why it failed."""
    try:
        print(f"{name}: {result()}", flush=True)
    except KwelaError as error:
        print(f"FAIL {name}: {error}", flush=True)
        return False
    return True


def _model(task: MusicgenTask) -> str:
    sizes = [(weight.numel(), weight.requires_grad) for weight in task.model().parameters()]
    tuned, total = sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
    return f"MusicGen({task.config.model.base}, {tuned:,} of {total:,} weights tuned)"


def _device(device: torch.device) -> str:
    return str(device) + (" (no GPU: training will be slow)" if device.type == "cpu" else "")


def _tensorboard(folder: Path) -> str:
    if find_spec("tensorboard") is None:
        raise UserError("tensorboard is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    return f"tensorboard --logdir {folder} (port 6006)"


Model = Annotated[
    str | None, typer.Option(help="best_model.pt, a folder, a hub id, 'base' (the config's), or 'tiny'.")
]
Prompts = Annotated[list[str] | None, typer.Option(help="What to play; may be repeated.")]
PromptFile = Annotated[Path | None, typer.Option(help="A text file, one prompt a line.")]
Duration = Annotated[float, typer.Option(help="Seconds, up to 300.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the first prompt; the next has the next.")]
Guidance = Annotated[float, typer.Option(min=0, help="How strongly to follow the prompt; 1: as trained.")]
TopK = Annotated[int, typer.Option(min=1, help="Draw among this many codes.")]
Stream = Annotated[bool, typer.Option("--stream", help="Write the WAV while it is being made.")]
Out = Annotated[Path, typer.Option(help="Folder of test_output_1.wav, .flac, ...")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda; default: the best there is.")]
Config = Annotated[Path | None, typer.Option(help="JSON; default: ai-service/config.json.")]
Pictures = Annotated[bool, typer.Option("--spectrogram", help="A PNG beside each.")]


def generate_audio(
    model: Model = None,
    prompt: Prompts = None,
    prompts: PromptFile = None,
    duration: Duration = 30.0,
    seed: Seed = 42,
    guidance: Guidance = 3.0,
    top_k: TopK = 250,
    temperature: Annotated[float, typer.Option(min=0.01)] = 1.0,
    stream: Stream = False,
    out: Out = Path(),
    device: Device = None,
    config: Config = None,
    pictures: Pictures = False,
    as_json: Json = False,
) -> None:
    """Audio from text, by a tuned MusicGen or its base: WAV and FLAC at -16 LUFS, 32 kHz mono.

    Without --model it is the campaign's best_model.pt; without prompts, the playbook's two test prompts.

    \b
    kwela generate audio --model tuned/best_model.pt --prompt "log drums, soulful piano"
    kwela generate audio --prompts prompts.txt --duration 120 --out samples --spectrogram
    """
    need_extra()
    from kwela.musicgen import generation
    from kwela.musicgen.sampling import SamplingSettings
    from kwela.playbook import Evaluation

    with speaking(as_json) as say:
        texts = [*(prompt or []), *(_lines(prompts) if prompts else [])] or Evaluation().prompts
        generation.check_request(texts, duration)
        loaded = generation.load(_source(model, config), stand_in(), device)
        places = [out / f"test_output_{number + 1}" for number in range(len(texts))]
        seeds = [seed + number for number in range(len(texts))]
        sampling = SamplingSettings(guidance, top_k, temperature)
        with _progress() as progress:
            result = generation.generate(
                loaded, texts, duration, seeds, places, sampling, stream=stream, progress=progress
            )
        if pictures:
            _draw_spectrograms(result["samples"])
        say(result, _generated(result))


def _source(model: str | None, config: Path | None) -> str:
    """Name the model to play: "base" is what the config tunes; None is the campaign's best one."""
    from kwela.musicgen import tuned_model

    if model is not None and model != "base":
        return model
    chosen, book, _ = settings(config, None, [])
    return chosen.model.base if model else str(book.checkpoint_dir / tuned_model.BEST_MODEL)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[float, float], None]]:
    """Show a progress bar on stderr. Gives the function (done, total) that moves it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("Generating", total=1.0)
        yield lambda done, total: bars.update(bar, completed=done / total)


def _draw_spectrograms(samples: Sequence[Mapping[str, Any]]) -> None:
    import soundfile

    from kwela.musicgen import generation

    for sample in samples:
        wave, rate = soundfile.read(sample["flac"])
        generation.save_spectrogram(wave, rate, sample["prompt"], Path(sample["flac"]).with_suffix(".png"))


def _generated(result: Mapping[str, Any]) -> str:
    """Say in text what was written and how fast."""
    lines = [
        f"{sample['wav']}, .flac: {sample['prompt']} (seed {sample['seed']})" for sample in result["samples"]
    ]
    lines.append(
        f"First audio after {result['first_audio_seconds']:.1f} s; "
        f"{result['seconds_per_second']:.2f} s a second of audio; "
        f"peak memory {result['peak_memory_mb']:,.0f} MB on {result['device']}"
    )
    return "\n".join(lines)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as a list of prompts: {error}") from None
    if not any(lines):
        raise UserError(f"{path}: no prompt in it")
    return [line for line in lines if line]

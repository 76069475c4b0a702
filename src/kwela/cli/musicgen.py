"""Run `kwela train musicgen` and `kwela generate audio`.

The playbook describes both: training on its Days 5 to 8, and generation with its two test prompts.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kwela import terminal
from kwela.cli.output import Json, first_rank, speaking
from kwela.cli.prepare import PreparedTraining, TrainingRequest, tensorboard_folder
from kwela.errors import KwelaError, UserError

if TYPE_CHECKING:
    import torch

    from kwela.engine.session import Extra
    from kwela.musicgen.config import MusicgenConfig
    from kwela.musicgen.task import MusicgenTask
    from kwela.playbook import PlaybookConfig

LOG = Path("training_logs/training.log")  # relative to the config's folder
LARGEST_PROMPT_FILE = 1 << 24  # bytes


def read_settings(
    file: Path | None, preset: str | None, overrides: list[str]
) -> tuple[MusicgenConfig, PlaybookConfig, Path]:
    """Read the config. Returns the training settings, the playbook settings, and the config's folder."""
    from kwela import config, playbook
    from kwela.musicgen.config import MusicgenConfig

    path = playbook.find(file)
    folder = path.absolute().parent
    playbook_settings = playbook.load(path)
    values = playbook.training(playbook_settings, folder)
    settings = config.resolve(MusicgenConfig, values, path, preset=preset, overrides=overrides)
    return settings, playbook_settings, folder


def prepare(request: TrainingRequest, workers: int | None, ledger: Path | None) -> PreparedTraining:
    """Prepare the training that the playbook's config describes.

    workers: the number of processes that fill the cache. ledger: the ledger of a campaign; each checkpoint
    keeps a copy of it. Raises UserError if the config or its table cannot be read, or if the extra "musicgen"
    is not installed.
    """
    from kwela.corpus.pairs import rows

    settings, playbook_settings, config_folder = read_settings(
        request.config, request.preset, request.overrides
    )
    settings.training.epochs = request.epochs or settings.training.epochs
    task = _task(settings, workers, request.device)
    folder = request.out or playbook_settings.checkpoint_dir
    runs_dir = playbook_settings.tensorboard_dir
    if folder != playbook_settings.checkpoint_dir:  # A rehearsal must not mix its curves with the campaign's.
        runs_dir = tensorboard_folder(folder, playbook_settings.checkpoint_dir.parent, runs_dir.parent)
    return PreparedTraining(
        settings,
        task,
        folder,
        runs_dir,
        rows.data_hash([settings.data.train_manifest]),
        task.fingerprint,
        _session_fields(ledger, config_folder, folder),
        lambda: _write_model_folder(folder, task),
    )


def tiny_folder() -> Path:
    """Return the folder of the base model "tiny", which is small and random."""
    from kwela import config

    return config.repo_root() / "cache/musicgen/base"


def _ledger_hooks(file: Path) -> tuple[Callable[[], Extra], Callable[[Extra], None]]:
    """Return a function that copies a ledger into a checkpoint, and one that restores it from a checkpoint.

    A ledger only grows. If the file begins with the copy, the file is newer and stays. If the copy begins
    with the file, or the file is missing, the copy is newer and replaces it. Otherwise they are of two
    campaigns, and the restoring function raises UserError.
    """
    from kwela import files

    def copy() -> Extra:
        return {"ledger": file.read_text(encoding="utf-8") if file.is_file() else ""}

    def restore(extra: Extra) -> None:
        saved, current = str(extra.get("ledger", "")), copy()["ledger"]
        if current.startswith(saved):
            return
        if not saved.startswith(current):
            raise UserError(
                f"{file}: a ledger of another campaign than the checkpoint's; give the checkpoint's own"
            )
        files.write(file, saved)

    return copy, restore


def need_extra() -> None:
    """Raise UserError if a library that MusicGen needs is not installed."""
    for name in ("peft", "transformers"):
        if find_spec(name) is None:  # To import them would take seconds.
            raise UserError(f"MusicGen needs {name}: pip install 'kwela[musicgen]'")


def _task(settings: MusicgenConfig, workers: int | None, device: str | None) -> MusicgenTask:
    need_extra()
    from kwela.musicgen.task import MusicgenTask

    say: Callable[[str], None] = terminal.say if first_rank() else lambda line: None
    return MusicgenTask(settings, workers=workers, device=device, say=say)


def _session_fields(ledger: Path | None, config_folder: Path, folder: Path) -> dict[str, Any]:
    """Return the fields of the engine's Session that only MusicGen sets. folder: of the checkpoints."""
    from kwela.campaign.money.ledger import NAME
    from kwela.musicgen import tuned_model

    extra, on_resume = _ledger_hooks(ledger) if ledger else (None, None)
    return {
        "log": config_folder / LOG,
        "on_best": tuned_model.write_best_model,
        "extra": extra,
        "on_resume": on_resume,
        "keeps_folder": ledger is not None or (folder / NAME).is_file(),
    }


def _write_model_folder(folder: Path, task: MusicgenTask) -> None:
    """Write the best checkpoint as a folder that transformers or peft can load, `model` in `folder`."""
    from kwela.engine import checkpoint
    from kwela.musicgen import tuned_model

    report, table = None, task.config.data.train_manifest
    with contextlib.suppress(OSError, ValueError):  # The model card is shorter without it.
        report = json.loads(table.with_name("dataset_report.json").read_text(encoding="utf-8"))
    written = tuned_model.export(folder / checkpoint.BEST, folder / "model", task.tiny_folder, report)
    terminal.say(f"For transformers and peft: {written}")


def check(request: TrainingRequest, workers: int | None) -> bool:
    """Do and print the checks of the playbook's Days 5 to 7. Returns whether all of them pass."""
    from kwela.engine import ranks
    from kwela.musicgen.task import count_table

    settings, playbook_settings, _ = read_settings(request.config, request.preset, request.overrides)
    task = _task(settings, workers, request.device)
    data = functools.cache(lambda: count_table(task))
    results = [
        _print_check("Model loaded", lambda: _model_text(task)),
        _print_check("Device", lambda: _device_text(ranks.pick(request.device, 0, 1))),
        _print_check("Dataset rows", lambda: str(data()["rows"])),
        _print_check("Unique tags", lambda: str(data()["tags"])),
        _print_check("TensorBoard", lambda: _tensorboard_text(playbook_settings.tensorboard_dir)),
    ]
    terminal.say("All checks passed" if all(results) else "Some checks failed")
    return all(results)


def _print_check(name: str, result: Callable[[], str]) -> bool:
    """Print the result of a check, or why it failed. Returns whether it passed."""
    try:
        terminal.say(f"{name}: {result()}")
    except KwelaError as error:
        terminal.say(f"FAIL {name}: {error}")
        return False
    return True


def _model_text(task: MusicgenTask) -> str:
    sizes = [(weight.numel(), weight.requires_grad) for weight in task.model().parameters()]
    tuned, total = sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
    return f"MusicGen({task.config.model.base}, {tuned:,} of {total:,} weights tuned)"


def _device_text(device: torch.device) -> str:
    return str(device) + (" (no GPU: training will be slow)" if device.type == "cpu" else "")


def _tensorboard_text(folder: Path) -> str:
    if find_spec("tensorboard") is None:
        raise UserError("tensorboard is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    return f"tensorboard --logdir {folder} (port 6006)"


Model = Annotated[
    str | None,
    typer.Option(help="A best_model.pt, a folder, a hub id, 'base' (the config's base model) or 'tiny'."),
]
Prompts = Annotated[list[str] | None, typer.Option(help="A description of the music; may be repeated.")]
PromptFile = Annotated[Path | None, typer.Option(help="A text file with one prompt on each line.")]
Duration = Annotated[float, typer.Option(help="Seconds of audio for each prompt, up to 300.")]
Seed = Annotated[
    int, typer.Option(min=0, help="The seed of the first prompt; each further prompt takes the next number.")
]
Guidance = Annotated[
    float,
    typer.Option(min=0, help="How strongly the audio follows the prompt (classifier-free guidance); 1: off."),
]
TopK = Annotated[int, typer.Option(min=1, help="Sample from this many of the most probable codes.")]
Stream = Annotated[bool, typer.Option("--stream", help="Write the WAV file while the audio is generated.")]
Out = Annotated[Path, typer.Option(help="The folder for test_output_1.wav, test_output_1.flac and so on.")]
Device = Annotated[
    str | None, typer.Option(help="cpu or cuda; the default is the best device of this machine.")
]
Config = Annotated[Path | None, typer.Option(help="A JSON config; the default is ai-service/config.json.")]
Spectrograms = Annotated[
    bool, typer.Option("--spectrogram", help="Also write a spectrogram of each, as PNG.")
]


def generate_audio(
    model: Model = None,
    prompt: Prompts = None,
    prompts: PromptFile = None,
    duration: Duration = 30.0,
    seed: Seed = 42,
    guidance: Guidance = 3.0,
    top_k: TopK = 250,
    temperature: Annotated[
        float, typer.Option(min=0.01, help="Above 1 the sampling is more random, below 1 less.")
    ] = 1.0,
    stream: Stream = False,
    out: Out = Path(),
    device: Device = None,
    config: Config = None,
    spectrograms: Spectrograms = False,
    as_json: Json = False,
) -> None:
    """Generate audio from text with MusicGen: WAV and FLAC at -16 LUFS, 32 kHz mono.

    The default model is the campaign's best_model.pt. The default prompts are the playbook's two.

    \b
    kwela generate audio --model tuned/best_model.pt --prompt "log drums, soulful piano"
    kwela generate audio --prompts prompts.txt --duration 120 --out samples --spectrogram
    """
    need_extra()
    from kwela.musicgen import generation
    from kwela.musicgen.sampling import SamplingSettings
    from kwela.playbook import Evaluation

    with speaking(as_json) as say:
        texts = [*(prompt or []), *(_read_prompts(prompts) if prompts else [])] or Evaluation().prompts
        generation.check_request(texts, duration)
        loaded = generation.load(_model_name(model, config), tiny_folder(), device)
        stems = [out / f"test_output_{number + 1}" for number in range(len(texts))]
        seeds = [seed + number for number in range(len(texts))]
        sampling = SamplingSettings(guidance, top_k, temperature)
        with _progress() as progress:
            result = generation.generate(
                loaded, texts, duration, seeds, stems, sampling, stream=stream, progress=progress
            )
        if spectrograms:
            _draw_spectrograms(result["samples"])
        say(result, _result_text(result))


def _model_name(model: str | None, config: Path | None) -> str:
    """Replace "base" by the base model of the config, and None by the campaign's best model."""
    from kwela.musicgen import tuned_model

    if model is not None and model != "base":
        return model
    settings, playbook_settings, _ = read_settings(config, None, [])
    return settings.model.base if model else str(playbook_settings.checkpoint_dir / tuned_model.BEST_MODEL)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[float, float], None]]:
    """Show a progress bar on stderr. Yields the function (done, total) that moves it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        progress_task = progress.add_task("Generating", total=1.0)
        yield lambda done, total: progress.update(progress_task, completed=done / total)


def _draw_spectrograms(samples: Sequence[Mapping[str, Any]]) -> None:
    import soundfile

    from kwela.musicgen import generation

    for sample in samples:
        wave, rate = soundfile.read(sample["flac"])
        generation.save_spectrogram(wave, rate, sample["prompt"], Path(sample["flac"]).with_suffix(".png"))


def _result_text(result: Mapping[str, Any]) -> str:
    """Return a text that says which files were written and how fast."""
    lines = [
        f"{sample['wav']}, .flac: {sample['prompt']} (seed {sample['seed']})" for sample in result["samples"]
    ]
    lines.append(
        f"First audio after {result['first_audio_seconds']:.1f} s; "
        f"{result['seconds_per_second']:.2f} s a second of audio; "
        f"peak memory {result['peak_memory_mb']:,.0f} MB on {result['device']}"
    )
    return "\n".join(lines)


def _read_prompts(path: Path) -> list[str]:
    from kwela import files

    text = files.read_text(path, "prompts", LARGEST_PROMPT_FILE)
    text = text.replace("\ufeff", "")  # files put together keep the mark that each began with
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    if not any(lines):
        raise UserError(f"{path}: there is no prompt in it")
    return [line for line in lines if line]

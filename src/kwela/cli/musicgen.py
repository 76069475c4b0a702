"""`kwela train musicgen` and `kwela generate audio`: the playbook's Days 5 to 8 and its test prompts."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kwela.cli.output import Json, first_rank, speaking
from kwela.errors import KwelaError, UserError

if TYPE_CHECKING:
    from kwela.config import MusicgenConfig
    from kwela.engine.session import Extra
    from kwela.musicgen.task import MusicgenTask
    from kwela.playbook import PlaybookConfig

LOG = Path("training_logs/training.log")  # beside the config


def settings(
    file: Path | None, preset: str | None, overrides: list[str]
) -> tuple[MusicgenConfig, PlaybookConfig, Path]:
    """The training settings, the playbook's own, and the folder of its file."""
    from kwela import config, playbook

    path = playbook.find(file)
    folder = path.absolute().parent
    own = playbook.load(path)
    given = playbook.training(own, folder)
    chosen = config.resolve("musicgen", given, path, preset=preset, overrides=overrides)
    assert isinstance(chosen, config.MusicgenConfig)
    return chosen, own, folder


def stand_in() -> Path:
    """Where the stand-in called "tiny" is kept."""
    from kwela import config

    return config.repo_root() / "cache/musicgen/base"


def ledger(file: Path) -> tuple[Callable[[], Extra], Callable[[Extra], None]]:
    """What carries a ledger in each checkpoint, and what restores it from one.

    The file is the newer where it begins with the checkpoint's copy; where it is the beginning of that copy (or is
    gone), the copy is written back. Raises UserError on resume if neither holds.
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
    """Raises UserError if what MusicGen needs is not installed."""
    for name in ("peft", "transformers"):
        if find_spec(name) is None:  # they take seconds to import
            raise UserError(f"MusicGen needs {name}: pip install 'kwela[musicgen]'")


def task(chosen: MusicgenConfig, workers: int | None, device: str | None) -> MusicgenTask:
    """Raises UserError if the extra is not installed."""
    need_extra()
    from kwela.musicgen.task import MusicgenTask

    return MusicgenTask(
        chosen, workers=workers, device=device, say=print if first_rank() else lambda line: None
    )


def hooks(carried: Path | None, beside: Path, out: Path) -> dict[str, Any]:
    """What of loop.Session is musicgen's own. carried: a ledger; beside: the config's folder; out: the run's."""
    from kwela.campaign.money.ledger import NAME
    from kwela.musicgen import artefact

    extra, on_resume = ledger(carried) if carried else (None, None)
    bound = carried is not None or (out / NAME).is_file()
    return {
        "log": beside / LOG,
        "on_best": artefact.strip,
        "extra": extra,
        "on_resume": on_resume,
        "bound": bound,
    }


def finish(folder: Path, tuning: MusicgenTask) -> None:
    """The folder `model` beside the best checkpoint, for transformers or peft."""
    from kwela.engine import checkpoint
    from kwela.musicgen import artefact

    known, table = None, tuning.config.data.train_manifest
    with contextlib.suppress(OSError, ValueError):  # the card does without it
        known = json.loads(table.with_name("dataset_report.json").read_text(encoding="utf-8"))
    place = artefact.export(folder / checkpoint.BEST, folder / "model", tuning.tiny, known)
    print(f"For transformers and peft: {place}", flush=True)


def check(task: MusicgenTask, own: PlaybookConfig, device: str | None) -> bool:
    """The playbook's Days 5 to 7: print what it expects and whether it holds. True if all of it does."""
    from kwela.engine import ranks
    from kwela.musicgen.task import summary

    passed = True

    def row(name: str, verdict: Callable[[], str]) -> None:
        nonlocal passed
        try:
            print(f"{name}: {verdict()}", flush=True)
        except KwelaError as error:
            passed = False
            print(f"FAIL {name}: {error}", flush=True)

    def model() -> str:
        built = task.model()
        sizes = [(p.numel(), p.requires_grad) for p in built.parameters()]
        tuned, whole = sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)
        return f"MusicGen({task.config.model.base}, {tuned:,} of {whole:,} weights tuned)"

    def board() -> str:
        if find_spec("tensorboard") is None:
            raise UserError("tensorboard is not installed")
        own.tensorboard_dir.mkdir(parents=True, exist_ok=True)
        return f"tensorboard --logdir {own.tensorboard_dir} (port 6006)"

    data = functools.cache(lambda: summary(task))
    row("Model loaded", model)
    row("Device", lambda: _device(ranks.pick(device, 0, 1)))
    row("Dataset rows", lambda: str(data()["rows"]))
    row("Unique tags", lambda: str(data()["tags"]))
    row("TensorBoard", board)
    print("All checks passed" if passed else "Some checks failed", flush=True)
    return passed


def _device(device: Any) -> str:
    return str(device) + (" (no GPU: training will be slow)" if device.type == "cpu" else "")


def generate_audio(
    model: Annotated[
        str | None, typer.Option(help="best_model.pt, a folder, a hub id, 'base' (the config's), or 'tiny'.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="What to play; may be repeated.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A text file, one prompt a line.")] = None,
    duration: Annotated[float, typer.Option(help="Seconds, up to 300.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the first prompt; the next has the next.")] = 42,
    guidance: Annotated[float, typer.Option(min=0, help="How much to heed the prompt; 1: as trained.")] = 3.0,
    top_k: Annotated[int, typer.Option(min=1, help="Draw among this many codes.")] = 250,
    temperature: Annotated[float, typer.Option(min=0.01)] = 1.0,
    stream: Annotated[bool, typer.Option("--stream", help="Write the WAV while it is being made.")] = False,
    out: Annotated[Path, typer.Option(help="Folder of test_output_1.wav, .flac, ...")] = Path(),
    device: Annotated[str | None, typer.Option(help="cpu, cuda; default: the best there is.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON; default: ai-service/config.json.")] = None,
    pictures: Annotated[bool, typer.Option("--spectrogram", help="A PNG beside each.")] = False,
    as_json: Json = False,
) -> None:
    """Audio from text, by a tuned MusicGen or its base: WAV and FLAC at -16 LUFS, 32 kHz mono.

    Without --model it is the campaign's best_model.pt; without prompts, the playbook's two test prompts.

    \b
    kwela generate audio --model ai-service/checkpoints/phase_2_5/best_model.pt --prompt "log drums, soulful piano"
    kwela generate audio --prompts prompts.txt --duration 120 --out samples --spectrogram
    """
    need_extra()
    from rich.console import Console
    from rich.progress import Progress

    from kwela.musicgen import artefact, generation
    from kwela.musicgen.sample import Sampling
    from kwela.playbook import Evaluation

    with speaking(as_json) as say:
        wanted = [*(prompt or []), *(_lines(prompts) if prompts else [])] or Evaluation().prompts
        generation.check(wanted, duration)
        source = model or ""
        if model in (None, "base"):
            chosen, own, _ = settings(config, None, [])
            source = chosen.model.base if model else str(own.checkpoint_dir / artefact.BEST_MODEL)
        loaded = generation.load(source, stand_in(), device)
        places = [out / f"test_output_{number + 1}" for number in range(len(wanted))]
        seeds = [seed + number for number in range(len(wanted))]
        with Progress(console=Console(stderr=True), transient=True) as progress:
            bar = progress.add_task("Generating", total=1.0)
            took = generation.generate(
                loaded, wanted, duration, seeds, places, Sampling(guidance, top_k, temperature), stream=stream,
                progress=lambda done, total: progress.update(bar, completed=done / total),
            )  # fmt: skip
        if pictures:
            import soundfile

            for sample in took["samples"]:
                wave, rate = soundfile.read(sample["flac"])
                generation.draw_spectrogram(
                    wave, rate, sample["prompt"], Path(sample["flac"]).with_suffix(".png")
                )
        lines = [
            f"{sample['wav']}, .flac: {sample['prompt']} (seed {sample['seed']})"
            for sample in took["samples"]
        ]
        lines.append(
            f"First audio after {took['first_audio_seconds']:.1f} s; {took['seconds_per_second']:.2f} s a second of "
            f"audio; peak memory {took['peak_memory_mb']:,.0f} MB on {took['device']}"
        )
        say(took, "\n".join(lines))


def _lines(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as a list of prompts: {error}") from None
    if not any(found):
        raise UserError(f"{path}: no prompt in it")
    return [line for line in found if line]

"""`kwela export`: checkpoints to ONNX and Core ML, each with its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kwela import families
from kwela.cli.output import Json, speaking
from kwela.errors import UserError


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("export", short_help="Checkpoints to ONNX and Core ML, with evidence.")(export)


def export(
    spectocloud: Annotated[Path | None, typer.Option(help="A Spectocloud checkpoint.")] = None,
    midi_generator: Annotated[Path | None, typer.Option(help="A MIDI generator checkpoint.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every best.pt under checkpoints/.")] = False,
    out: Annotated[Path | None, typer.Option(help="Default: exports/ of the repository.")] = None,
    as_json: Json = False,
) -> None:
    """Write ONNX files (and Core ML packages where coremltools is installed), checked against PyTorch.

    \b
    kwela export --all
    kwela export --spectocloud checkpoints/spectocloud/best.pt
    """
    from kwela import config
    from kwela.export import run

    root = config.repo_root()
    named = {"spectocloud": spectocloud, "midi_generator": midi_generator}
    chosen = _best(root) if everything else {}
    chosen |= {name: path for name, path in named.items() if path is not None}
    if not chosen:
        raise UserError(
            "export: no checkpoint under checkpoints/ yet (kwela train makes one)"
            if everything
            else "export: name a checkpoint (--spectocloud, --midi-generator) or use --all"
        )
    with speaking(as_json) as say:
        written = [
            file for name, path in chosen.items() for file in run.export(name, path, out or root / "exports")
        ]
        say({"files": [str(file) for file in written]}, "\n".join(f"wrote {file}" for file in written))


def _best(root: Path) -> dict[str, Path]:
    """Find the best checkpoint of each family that can be exported, by the family's name."""
    places = {
        family.name: root / "checkpoints" / family.name / "best.pt"
        for family in families.registered()
        if family.signature_at
    }
    return {name: path for name, path in places.items() if path.is_file()}

"""Turn the options of `kwela train` into what the engine needs: settings, a task, folders and hashes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwela import terminal
from kwela.cli.output import first_rank
from kwela.errors import UserError

if TYPE_CHECKING:
    from kwela.config import TrainConfig
    from kwela.engine.task import Task
    from kwela.families import Family

SMOKE_EPOCHS = 5  # the number of epochs on the synthetic smoke set, unless the user names one


@dataclass(frozen=True)
class TrainingRequest:
    """Hold what the command line asks for."""

    family: Family
    config: Path | None
    preset: str | None
    overrides: list[str]  # what each --set says, such as "training.epochs=3"
    epochs: int | None
    device: str | None
    out: Path | None


@dataclass(frozen=True)
class PreparedTraining:
    """Hold a training run that is ready to start."""

    settings: TrainConfig
    task: Task
    folder: Path  # the folder of its checkpoints
    runs_dir: Path  # the folder of its TensorBoard curves
    data_hash: str
    tokenizer_hash: str
    session: dict[str, Any] = field(default_factory=dict)  # further fields of the engine's Session
    finish: Callable[[], None] = lambda: None  # The first rank calls it after the training.


def prepare(request: TrainingRequest) -> PreparedTraining:
    """Read the settings, find the manifests (or the smoke set) and make the task of a registered family.

    Raises UserError for settings or manifests that cannot be read.
    """
    from kwela import config
    from kwela.corpus.pairs import rows

    family, root = request.family, config.repo_root()
    settings = config.load(family.config, request.config, preset=request.preset, overrides=request.overrides)
    smoke = use_smoke_set_if_needed(settings, demo=request.preset == "demo")
    if request.epochs is not None:
        settings.training.epochs = request.epochs
    elif smoke:
        settings.training.epochs = smoke_epochs(
            family.config, request.config, request.preset, request.overrides
        )
    folder = request.out or root / "checkpoints" / family.name
    return PreparedTraining(
        settings,
        family.task(settings),
        folder,
        root / "runs" / family.name
        if request.out is None
        else tensorboard_folder(folder, root / "checkpoints", root / "runs"),
        rows.data_hash([settings.data.train_manifest, settings.data.val_manifest]),
        family.tokenizer_hash,
    )


def tensorboard_folder(folder: Path, checkpoints: Path, runs: Path) -> Path:
    """Return the folder of the TensorBoard curves of a run: each folder of checkpoints has its own.

    folder: that of the run's checkpoints. checkpoints, runs: where such folders and curves usually are. The
    curves have the name of the checkpoints' folder: its path below `checkpoints` or below the repository, and
    for any other folder its name with a hash of its path.
    """
    from kwela import config, files

    folder, usual, root = folder.resolve(), checkpoints.resolve(), config.repo_root().resolve()
    for base, other in ((usual, root), (root, usual)):
        if folder.is_relative_to(base) and folder != base:
            name = folder.relative_to(base)
            if not (other / name).is_dir():  # two folders with one name: each is called by its hash
                return runs / name
    return runs / f"{folder.name}-{files.sha256(os.fsencode(folder))[:8]}"


def smoke_epochs(
    schema: type[TrainConfig], file: Path | None, preset: str | None, overrides: list[str]
) -> int:
    """Return the epochs of a smoke run: SMOKE_EPOCHS, unless a config, the preset or --set names a number.

    The shipped YAML file repeats the defaults. So its number is no choice of the user, even if the user names
    that file.
    """
    from kwela import config

    chosen = preset is not None and "epochs" in schema.presets[preset].get("training", {})
    if file is not None:
        shipped = schema.shipped_file
        is_shipped = (
            shipped and config.find(file, shipped).resolve() == (config.repo_root() / shipped).resolve()
        )
        chosen = chosen or (
            not is_shipped and "epochs" in config.load(schema, file).training.model_fields_set
        )
    default = [] if chosen else [f"training.epochs={SMOKE_EPOCHS}"]
    return config.load(schema, file, preset=preset, overrides=[*default, *overrides]).training.epochs


def use_smoke_set_if_needed(settings: TrainConfig, *, demo: bool) -> bool:
    """Point `settings` at the synthetic smoke set if its manifests are missing at their default paths.

    Return whether it was done. The demo's manifests lie at those paths too, but only the demo preset uses
    them. A family that does not read the manifests of `kwela manifests` has no smoke set. Raises UserError
    for a manifest that is missing and that the smoke set can't replace.
    """
    from kwela import config
    from kwela.cli.corpus import smoke_set
    from kwela.corpus.pairs import manifest

    root, data = config.repo_root(), settings.data
    default = type(settings).model_validate({}).data
    paths = [data.train_manifest, data.val_manifest]
    missing = [path for path in paths if not path.is_file()]
    if not data.row_keys or paths != [root / default.train_manifest, root / default.val_manifest]:
        if missing:
            hint = " (kwela manifests writes it)" if data.row_keys else ""
            raise UserError(f"{missing[0]}: no such manifest{hint}")
        return False
    if not missing and (demo or not manifest.is_demo(paths[0].parent)):
        return False
    if first_rank():
        terminal.say(f"WARNING: Manifest not found: {(missing or paths)[0].relative_to(root)}")
        terminal.say("WARNING: Generating synthetic training data for smoke testing only!")
    folder = smoke_set(root / "data" / "smoke")
    data.train_manifest = folder / default.train_manifest.name
    data.val_manifest = folder / default.val_manifest.name
    return True

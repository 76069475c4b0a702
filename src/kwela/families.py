"""The model families: what the commands, the judges and the exporter know of each.

- A new family is a package and one entry below. A family from outside this package calls `families.register`.
- An entry names its parts as "module:attribute". They are imported when they are needed, so this module
  imports neither torch nor a family, and a judge rebuilds a model without importing the code that trains it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kwela.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from kwela.config import TrainConfig
    from kwela.engine.task import Task
    from kwela.signature import Signature


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family. Fields that end in `_at` are "module:attribute", or "" where it has no such part."""

    name: str  # of its package, of its folder under checkpoints/, and in its checkpoints
    command: str  # its word in `kwela train`
    config_at: str  # a TrainConfig: settings, presets, shipped file, and the keys of a manifest's row
    task_at: str  # the engine's Task, a function of the settings
    build_at: str = ""  # the model, a function of a checkpoint's config["model"]
    tokenizer_hash_at: str = ""  # a function: the hash that the family's checkpoints carry
    signature_at: str = ""  # what its exported model takes and gives; without one it cannot be exported

    @property
    def config(self) -> type[TrainConfig]:
        """The class of its settings."""
        return _load(self.config_at)

    @property
    def tokenizer_hash(self) -> str:
        """The hash of the tokenizer that its models are bound to; "" if they are bound to none."""
        return _load(self.tokenizer_hash_at)() if self.tokenizer_hash_at else ""

    @property
    def signature(self) -> Signature:
        """What its exported model takes and gives. Raises UserError for a family that cannot be exported."""
        if not self.signature_at:
            raise UserError(f"{self.name}: models of this family cannot be exported")
        return _load(self.signature_at)

    def task(self, settings: TrainConfig) -> Task:
        """Make what the engine trains."""
        return _load(self.task_at)(settings)

    def build(self, settings: dict[str, Any]) -> nn.Module:
        """Make a model of these settings, a checkpoint's config["model"], with new weights."""
        return _load(self.build_at)(settings)

    def rebuild(self, path: Path, state: dict[str, Any]) -> nn.Module:
        """Return the model of a loaded checkpoint, in eval mode. Raises as `checkpoint.rebuild` does."""
        from kwela.engine import checkpoint

        settings: Any = self.config.model_fields["model"].annotation
        return checkpoint.rebuild(path, state, self.name, settings, self.build, self.tokenizer_hash)


_FAMILIES: list[Family] = []


def register(family: Family) -> None:
    """Add a family. Raises ValueError if its name or its command is taken."""
    for other in _FAMILIES:
        if family.name == other.name or family.command == other.command:
            raise ValueError(
                f"family {family.name} (command {family.command}): {other.name} is there already"
            )
    _FAMILIES.append(family)


def registered() -> list[Family]:
    """Return all families, in the order of their registration."""
    return list(_FAMILIES)


def named(name: str) -> Family:
    """Return the family of this name, as checkpoints write it. Raises KeyError."""
    return {family.name: family for family in _FAMILIES}[name]


def by_command(word: str) -> Family:
    """Return the family that `kwela train` calls `word`. Raises UserError, which lists the known words."""
    known = {family.command: family for family in _FAMILIES}
    if word not in known:
        raise UserError(f"'{word}': unknown family (known: {', '.join(known)})")
    return known[word]


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


register(
    Family(
        name="spectocloud",
        command="spectocloud",
        config_at="kwela.spectocloud.config:SpectocloudConfig",
        task_at="kwela.spectocloud.task:SpectocloudTask",
        build_at="kwela.spectocloud.model:build",
        signature_at="kwela.spectocloud.export_signature:SIGNATURE",
    )
)
register(
    Family(
        name="midi_generator",
        command="midi",
        config_at="kwela.midi_generator.config:MidiGeneratorConfig",
        task_at="kwela.midi_generator.task:MidiGeneratorTask",
        build_at="kwela.midi_generator.model:build",
        tokenizer_hash_at="kwela.music.tokens:tokenizer_hash",
        signature_at="kwela.midi_generator.export_signature:SIGNATURE",
    )
)
register(  # musicgen.tuned_model rebuilds its models, on the base that they were tuned from
    Family(
        name="musicgen",
        command="musicgen",
        config_at="kwela.musicgen.config:MusicgenConfig",
        task_at="kwela.musicgen.task:MusicgenTask",
    )
)

"""Which checkpoint a run goes on from, and whether it may.

The data, the model (its settings and its weights' shapes), the tokenizer and the seed must be the same. Learning rate,
warm-up, epochs, patience, workers and device may change, and batch, ranks and accumulation too where their product, the
global batch, stays. So may any other setting, though the rest of the run is then another experiment's: whatever
changed is said on screen and written in run.json.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from torch import Tensor

from kwela.config import TrainConfig
from kwela.engine import checkpoint
from kwela.errors import UserError

Resume = Literal["auto"] | Path | None


@dataclass(frozen=True)
class Identity:
    """What a checkpoint and the run that resumes it must share."""

    family: str
    tokenizer: str
    data: str
    model: dict[str, Any] | None
    seed: int
    weights: dict[
        str, tuple[int, ...]
    ]  # shapes: the code that builds a model changes too, not only its settings

    @classmethod
    def of(cls, state: dict[str, Any]) -> Identity:
        config = state["config"]
        return cls(
            state["family"],
            state["tokenizer_hash"],
            state["meta"]["data_hash"],
            config.get("model"),
            config["seed"],
            shapes(state["model"]),
        )

    def difference(self, other: Identity) -> str | None:
        """What `other` (a checkpoint) has another of, in words; None if they may be one run."""
        for what in ("family", "tokenizer", "data", "seed"):
            if getattr(self, what) != getattr(other, what):
                return f"{what} {_short(getattr(other, what))}, here {_short(getattr(self, what))}"
        mine, theirs = self.model or {}, other.model or {}
        keys = [key for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)]
        if keys:
            return ", ".join(f"model.{key} {theirs.get(key)}, here {mine.get(key)}" for key in keys)
        names = sorted({*self.weights, *other.weights})
        unlike = [name for name in names if self.weights.get(name) != other.weights.get(name)]
        if not unlike:
            return None
        name, more = unlike[0], f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
        there, here = (_size(weights.get(name)) for weights in (other.weights, self.weights))
        return f"weights {name} {there}, here {here}{more}: made by another version of the model"


class Choice(NamedTuple):
    path: Path | None  # the checkpoint to go on from; None: start afresh
    afresh: bool  # what `out` holds is another run's, and must be set aside
    why: str = ""


def choose(
    out: Path, resume: Resume, start: Path | None, identity: Identity, say: Callable[[str], None]
) -> Choice:
    """Decide what to go on from. Writes nothing.

    resume: "auto" takes the newest whole checkpoint in `out`, skipping damaged ones, or `start` where `out` has none
    of this run. A path is taken or refused. None starts afresh.
    Raises UserError: a named checkpoint is damaged or another run's, or `out` holds another family's.
    """
    if isinstance(resume, Path):
        return _named(resume, out, identity)
    why = "none of its checkpoints is whole" if resume == "auto" else "starting afresh was asked for"
    path = (
        checkpoint.latest_valid(out, lambda reason: say(f"Skipping {reason}")) if resume == "auto" else None
    )
    if path is not None:
        state = checkpoint.load(path)
        theirs = Identity.of(state)
        if theirs.family != identity.family:
            raise UserError(
                f"{path}: a checkpoint of {theirs.family}, and this is {identity.family}: choose another --out"
            )
        difference = identity.difference(theirs)
        if difference is None:
            if start is not None and start.resolve() != path.resolve():
                say(
                    f"training.resume_from is passed over: {path} has step {state['progress']['step']} of this run"
                )
            return Choice(path, afresh=False)
        why = f"{path.name} has {difference}"
        say(f"Not resuming from {path}: it has {difference}")
    if resume == "auto" and start is not None:
        return _named(start, out, identity)
    return Choice(None, afresh=True, why=why)


def set_aside(out: Path, say: Callable[[str], None]) -> None:
    """Rename `out` to the first free `<name>.N`, if it holds checkpoints."""
    if not any(out.glob("*.pt")):
        return
    number = 1
    while (aside := out.with_name(f"{out.name}.{number}")).exists():
        number += 1
    out.rename(aside)
    say(f"Starting afresh in {out}; what was there is now {aside}")


def accumulation(config: TrainConfig, state: dict[str, Any] | None, ranks: int) -> int:
    """The micro-batches a rank accumulates: as set, or such that a resumed run keeps its global batch.

    Raises UserError if `batch_size x grad_accum_steps` was changed, or the ranks do not divide the global batch.
    """
    if state is None:
        return config.training.grad_accum_steps
    whole = state["meta"]["global_batch"]
    batch, wanted = config.data.batch_size, config.training.grad_accum_steps
    before = state["config"]["data"]["batch_size"], state["config"]["training"]["grad_accum_steps"]
    asked = batch * wanted
    if asked != before[0] * before[1] and asked * ranks != whole:
        raise UserError(
            f"data.batch_size x training.grad_accum_steps is {batch} x {wanted} and was {before[0]} x {before[1]}: "
            f"a resumed run keeps the product; set them back, or start afresh with --fresh"
        )
    if whole % (batch * ranks):
        raise UserError(
            f"the run's global batch of {whole} does not divide by {ranks} ranks x data.batch_size {batch}: "
            f"choose a batch_size and ranks that divide it"
        )
    return whole // (batch * ranks)


def _named(path: Path, out: Path, identity: Identity) -> Choice:
    state = checkpoint.load(path)
    if not state["optimizer"]:
        raise UserError(
            f"{path}: can't resume from it: it holds weights alone; last.pt has the optimiser too"
        )
    difference = identity.difference(Identity.of(state))
    if difference is not None:
        raise UserError(f"{path}: can't resume from it: it has {difference}")
    return Choice(path, afresh=path.resolve().parent != out.resolve())


def told(changed: dict[str, Any]) -> str:
    """Changed settings (dotted key -> [old, new]) in one line."""
    return ", ".join(f"{key} {_short(was, 60)} -> {_short(now, 60)}" for key, (was, now) in changed.items())


def shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _size(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape)) or "scalar"


def _short(value: Any, most: int = 16) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[: most - 4]}..."

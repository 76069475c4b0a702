"""Which checkpoint a run resumes, and whether it may.

The data, the model (its settings and the shapes of its weights), the tokenizer and the seed must be the same.
Of the data, rows that can't be read any more may be missing (see data_rows).
Learning rate, warm-up, epochs, patience, workers and device may change. Batch size, ranks and accumulation
may change where their product, the global batch, stays. Any other setting may change too, though the rest of
the run is then another experiment. Every change is printed and written in run.json.
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
DataDifference = Callable[[dict[str, Any]], str | None]


@dataclass(frozen=True)
class RunIdentity:
    """What a checkpoint and the run that resumes it must share.

    tokenizer, data: hashes. model: its settings. weights: the shape of each, because the code that builds a
    model may change while its settings do not.
    """

    family: str
    tokenizer: str
    data: str
    model: dict[str, Any] | None
    seed: int
    weights: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, state: dict[str, Any]) -> RunIdentity:
        """Return the identity of the run that saved a checkpoint's `state`."""
        config = state["config"]
        return cls(
            state["family"],
            state["tokenizer_hash"],
            state["meta"]["data_hash"],
            config.get("model"),
            config["seed"],
            weight_shapes(state["model"]),
        )

    def difference(
        self, state: dict[str, Any], data_difference: DataDifference = lambda state: ""
    ) -> str | None:
        """Return in words what differs in a checkpoint from this run; None if the run may resume it.

        data_difference: says of data with another hash how they differ from the checkpoint's; None: by no
        more than a run may go on with.
        """
        checkpoint = RunIdentity.of(state)
        for part in ("family", "tokenizer", "data", "seed"):
            saved, current = getattr(checkpoint, part), getattr(self, part)
            if saved != current:
                how = data_difference(state) if part == "data" else ""
                if how is None:
                    continue
                return f"{part} {_shorten(saved)}, here {_shorten(current)}{f' ({how})' * bool(how)}"
        saved_model, current_model = checkpoint.model or {}, self.model or {}
        keys = sorted({*current_model, *saved_model})
        changed = [key for key in keys if current_model.get(key) != saved_model.get(key)]
        if changed:
            return ", ".join(
                f"model.{key} {saved_model.get(key)}, here {current_model.get(key)}" for key in changed
            )
        return self._weight_difference(checkpoint)

    def _weight_difference(self, checkpoint: RunIdentity) -> str | None:
        names = sorted({*self.weights, *checkpoint.weights})
        changed = [name for name in names if self.weights.get(name) != checkpoint.weights.get(name)]
        if not changed:
            return None
        name, rest = changed[0], f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        saved, current = _format_shape(checkpoint.weights.get(name)), _format_shape(self.weights.get(name))
        return f"weights {name} {saved}, here {current}{rest}: made by another version of the model"


class Start(NamedTuple):
    """What a session starts from.

    path: the checkpoint to resume; None: start at step 0. afresh: the folder holds another run, which must be
    set aside. why: the reason for that.
    """

    path: Path | None
    afresh: bool
    why: str = ""


def choose(
    out: Path,
    resume: Resume,
    resume_from: Path | None,
    identity: RunIdentity,
    data_difference: DataDifference,
    say: Callable[[str], None],
) -> Start:
    """Choose what to start from. Writes nothing.

    resume: "auto" takes the newest valid checkpoint in `out` and skips damaged ones, or takes `resume_from`
    where `out` has none of this run. A path is taken or refused. None starts afresh. data_difference: as in
    `RunIdentity.difference`. Raises UserError if a named checkpoint is damaged or of another run, or if `out`
    holds another family.
    """
    if isinstance(resume, Path):
        return _start_from(resume, out, identity, data_difference)
    if resume is None:
        return Start(None, afresh=True, why="starting afresh was asked for")
    why = "none of its checkpoints is whole"
    path = checkpoint.latest_valid(out, lambda reason: say(f"Skipping {reason}"))
    if path is not None:
        state = checkpoint.load(path)
        family = state["family"]
        if family != identity.family:
            raise UserError(
                f"{path}: a checkpoint of {family}, and this is {identity.family}: choose another --out"
            )
        difference = identity.difference(state, data_difference)
        if difference is None:
            if resume_from is not None and resume_from.resolve() != path.resolve():
                step = state["progress"]["step"]
                say(f"training.resume_from is passed over: {path} has step {step} of this run")
            return Start(path, afresh=False)
        why = f"{path.name} has {difference}"
        say(f"Not resuming from {path}: it has {difference}")
    if resume_from is not None:
        return _start_from(resume_from, out, identity, data_difference)
    return Start(None, afresh=True, why=why)


def set_aside(out: Path, runs_dir: Path | None, say: Callable[[str], None]) -> None:
    """Rename `out`, if it holds checkpoints, and TensorBoard's folder to the first free `<name>.N`."""
    if not any(out.glob("*.pt")):
        return
    number = 1
    while (aside := out.with_name(f"{out.name}.{number}")).exists():
        number += 1
    out.rename(aside)
    if runs_dir is not None and runs_dir.is_dir():
        curves = runs_dir.with_name(f"{runs_dir.name}.{number}")
        if not curves.exists():
            runs_dir.rename(curves)
    say(f"Starting afresh in {out}; what was there is now {aside}")


def accumulation(config: TrainConfig, state: dict[str, Any] | None, ranks: int) -> int:
    """Return the micro-batches of a rank in one step. A resumed run (`state`) keeps its global batch.

    Raises UserError if `batch_size x grad_accum_steps` was changed, or if the ranks do not divide the global
    batch.
    """
    if state is None:
        return config.training.grad_accum_steps
    global_batch = state["meta"]["global_batch"]
    batch_size, wanted = config.data.batch_size, config.training.grad_accum_steps
    saved_size = state["config"]["data"]["batch_size"]
    saved_steps = state["config"]["training"]["grad_accum_steps"]
    product = batch_size * wanted
    if product != saved_size * saved_steps and product * ranks != global_batch:
        raise UserError(
            f"data.batch_size x training.grad_accum_steps is {batch_size} x {wanted} and was {saved_size} x "
            f"{saved_steps}: a resumed run keeps the product; set them back, or start afresh with --fresh"
        )
    if global_batch % (batch_size * ranks):
        raise UserError(
            f"the run's global batch of {global_batch} does not divide by {ranks} ranks x data.batch_size "
            f"{batch_size}: choose a batch_size and ranks that divide it"
        )
    return global_batch // (batch_size * ranks)


def _start_from(path: Path, out: Path, identity: RunIdentity, data_difference: DataDifference) -> Start:
    state = checkpoint.load(path)
    if not state["optimizer"]:
        raise UserError(
            f"{path}: can't resume from it: it holds weights alone; last.pt has the optimiser too"
        )
    difference = identity.difference(state, data_difference)
    if difference is not None:
        raise UserError(f"{path}: can't resume from it: it has {difference}")
    return Start(path, afresh=path.resolve().parent != out.resolve())


def describe_changes(changed: dict[str, Any]) -> str:
    """Return changed settings (dotted key -> [old, new]) in one line."""
    return ", ".join(
        f"{key} {_shorten(old, 60)} -> {_shorten(new, 60)}" for key, (old, new) in changed.items()
    )


def weight_shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def _format_shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else " x ".join(map(str, shape)) or "scalar"


def _shorten(value: Any, limit: int = 16) -> str:
    text = str(value)
    return text if len(text) <= limit else f"{text[: limit - 4]}..."

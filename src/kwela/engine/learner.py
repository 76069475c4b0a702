"""The optimiser step and all that it changes: weights, their average, optimiser state, gradient scaler.

- A gradient is that of the sum over the whole step (all micro-batches of all ranks), divided once by the
  summed weight.
- DDP averages over the ranks while the last micro-batch runs backward; the division removes that average
  again.
- `find_unused_parameters` allows a step that does not use a head of the model. It also keeps DDP from
  rebuilding its buckets after the first step: with more than two ranks, a rebuilt bucket sums in another
  order, and a resumed run then differs in the last bit (measured).
- In float16 a sum of thousands overflows, so the loss is first divided by the power of two nearest to its
  weight, which is exact.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kwela.config import TrainConfig
from kwela.engine import optim, order, precision
from kwela.engine.ranks import Ranks
from kwela.engine.task import Batch, Mean, Task

# torch 2.11 offers no other name for this option.
warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")


class Learner:
    """A task's model with its optimiser, on one rank.

    names: of the losses, in the order of the rows of their sums.
    """

    def __init__(self, task: Task, config: TrainConfig, ranks: Ranks) -> None:
        self.task, self.config, self.ranks = task, config, ranks
        self.seed(order.init_seed(config.seed))
        self.model = task.model().to(ranks.device)
        self.parameters = list(self.model.parameters())  # walking the module at each step costs time
        self.optimizer = optim.adamw(self.model, config.optim)
        self.set_precision(None)
        ema = config.training.ema
        self.average = optim.WeightAverage(self.model, ema.decay) if ema.enabled else None
        self.runner: nn.Module = self.model
        if config.training.compile:
            self.runner = torch.compile(self.model)  # type: ignore[assignment]
        self.parallel: nn.Module = self.runner
        if ranks.size > 1:
            self.parallel = DistributedDataParallel(
                _WithUnusedParameter(self.runner, ranks.device),
                device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
                process_group=ranks.gradients,
                broadcast_buffers=False,
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
            )
        self.names: dict[str, type[Mean]] = {}

    def set_precision(self, dtype: torch.dtype | None) -> None:
        """Train in this dtype of autocast; None: in float32."""
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(self.ranks.device.type, enabled=dtype == torch.float16)

    @property
    def precision(self) -> str:
        """The name of the precision that it trains in."""
        return precision.name(self.dtype)

    def step(
        self, batches: Iterator[Batch], micro_batches: list[order.MicroBatch], step: int, rate: float
    ) -> tuple[Tensor, Tensor]:
        """Take optimiser step `step` (from 1) at learning rate `rate`, over one batch for each micro-batch.

        Returns the summed losses, float64 (names, 2: total and weight), and the gradient's L2 norm before
        clipping. Both are the same on every rank and stay on the device; nothing waits for them.
        """
        self.seed(order.step_seed(self.config.seed, step - 1, self.ranks.rank))
        self.parallel.train()
        self.optimizer.zero_grad()
        unit = torch.ones((), device=self.ranks.device)
        sums = None
        for number, micro_batch in enumerate(micro_batches, 1):
            batch = self.to_device(next(batches))
            with self._unsynced() if number < len(micro_batches) else contextlib.nullcontext():
                loss, batch_sums = self.losses(self.parallel, batch, micro_batch.live)
                if sums is None and self.scaler.is_enabled():
                    unit = self._unit(batch_sums)
                self.scaler.scale(loss / unit).backward()
            sums = batch_sums if sums is None else sums + batch_sums
        assert sums is not None
        self.ranks.sum_(sums)
        weight = sums[self.loss_row, 1]
        factor = torch.where(weight > 0, self.ranks.size * unit / weight, 0.0).float()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimizer)
        grads = [p.grad for p in self.parameters if p.grad is not None]
        norm = optim.rescale(grads, factor, self.config.optim.grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update(step)
        return sums, norm

    def losses(self, model: nn.Module, batch: Batch, live: bool) -> tuple[Tensor, Tensor]:
        """Return the loss to differentiate (a sum), and all named sums, detached, as rows (total, weight).

        Both are 0 if the batch is not `live`.
        """
        device = self.ranks.device.type
        with torch.autocast(device, self.dtype) if self.dtype else contextlib.nullcontext():
            means = self.task.losses(model, batch)
        if not self.names:
            self.names = {name: type(mean) for name, mean in means.items()}
        exact = torch.float32 if device == "mps" else torch.float64
        rows = [torch.stack([part.detach().to(exact) for part in means[name]]) for name in self.names]
        return means["loss"].total * float(live), torch.stack(rows) * float(live)

    @property
    def loss_row(self) -> int:
        """The row of the summed losses that holds "loss", which is minimised."""
        return list(self.names).index("loss")

    def means(self, sums: Tensor) -> dict[str, float]:
        """Return the named figures that summed losses stand for. Waits for the device."""
        return {
            name: kind.value(total, weight)
            for (name, kind), (total, weight) in zip(self.names.items(), sums.tolist(), strict=True)
        }

    def evaluation_model(self) -> nn.Module:
        """Return the model that is validated, in eval mode: the weight average where there is one."""
        return self.average.model if self.average else self.runner.eval()

    def bare_evaluation_model(self) -> nn.Module:
        """Return the same model without torch.compile's wrapper."""
        return self.average.model if self.average else self.model.eval()

    def seed(self, seed: int) -> None:
        """Seed torch's generators for the CPU and for this rank's device.

        `torch.manual_seed` is not used: on a machine without a GPU it stores a traceback at every call.
        """
        torch.default_generator.manual_seed(seed)
        if self.ranks.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.ranks.device.type == "mps":
            torch.mps.manual_seed(seed)

    def to_device(self, batch: Batch) -> Batch:
        """Return the batch on this rank's device."""
        return {name: tensor.to(self.ranks.device, non_blocking=True) for name, tensor in batch.items()}

    def state(self) -> dict[str, Any]:
        """Return everything that a step changes, as a checkpoint keeps it."""
        return {
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state, but betas, eps and weight decay from the settings."""
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.model.load_state_dict(state["ema"] or state["model"])
        groups = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, settings in zip(self.optimizer.param_groups, groups, strict=True):
            group |= {key: settings[key] for key in ("betas", "eps", "weight_decay", "fused")}
        if state["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def close(self) -> None:
        """Drop DDP and its group, even if an error's traceback keeps this object alive; see ranks."""
        self.parallel = self.runner

    def _unsynced(self) -> contextlib.AbstractContextManager[None]:
        if isinstance(self.parallel, DistributedDataParallel):
            return self.parallel.no_sync()
        return contextlib.nullcontext()

    def _unit(self, sums: Tensor) -> Tensor:
        weight = sums[self.loss_row, 1].clone()
        self.ranks.sum_(weight)
        return torch.exp2(torch.round(torch.log2(weight.clamp(min=1)))).float()


class _WithUnusedParameter(nn.Module):
    """A model with one unused parameter. Without one, DDP warns on each rank that it found none."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.unused = nn.Parameter(torch.zeros((), device=device))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

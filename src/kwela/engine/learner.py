"""What an optimiser step changes, and the step itself.

- Gradients are those of the sum over the whole step (all micro-batches, all ranks), divided once by the summed weight.
- DDP averages over the ranks while the last micro-batch runs backward; the division takes that back out.
- `find_unused_parameters` lets a head sit out a step, and keeps DDP from rebuilding its buckets after the first step:
  with more than two ranks a rebuilt bucket sums in another order, and a resumed run differs in the last bit (measured).
- float16: a sum of thousands overflows, so it is first divided by the power of two nearest to its weight (exact).
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
from kwela.engine import optim, order
from kwela.engine.ranks import Ranks
from kwela.engine.task import Batch, Mean, Task

warnings.filterwarnings(
    "ignore", message="`broadcast_buffers` is deprecated"
)  # torch 2.11 has no other name for it


class Learner:
    def __init__(self, task: Task, config: TrainConfig, ranks: Ranks, dtype: torch.dtype | None) -> None:
        self.task, self.config, self.ranks = task, config, ranks
        self.seed(order.init_seed(config.seed))
        self.model = task.model().to(ranks.device)
        self.parameters = list(
            self.model.parameters()
        )  # walking the module each step costs more than it looks
        self.optimizer = optim.adamw(self.model, config.optim)
        self.dtype = dtype
        self.scaler = torch.amp.GradScaler(ranks.device.type, enabled=dtype == torch.float16)
        ema = config.training.ema
        self.average = optim.Average(self.model, ema.decay) if ema.enabled else None
        self.runner: nn.Module = torch.compile(self.model) if config.training.compile else self.model  # type: ignore[assignment]
        self.parallel: nn.Module = self.runner
        if ranks.size > 1:
            self.parallel = DistributedDataParallel(
                _WithIdle(self.runner, ranks.device),
                device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
                process_group=ranks.gradients,
                broadcast_buffers=False,
                find_unused_parameters=True,
                gradient_as_bucket_view=True,
            )
        self.names: dict[str, type[Mean]] = {}  # of the losses, in the order of the rows of their sums

    def step(
        self, batches: Iterator[Batch], draws: list[order.Draw], step: int, rate: float
    ) -> tuple[Tensor, Tensor]:
        """Optimiser step `step` (from 1), over one micro-batch for each of `draws`.

        Returns the summed losses, float64 (names, 2: total and weight), and the gradient's L2 norm before clipping;
        both the same on every rank, on the device, not waited for.
        """
        self.seed(order.step_seed(self.config.seed, step - 1, self.ranks.rank))
        self.parallel.train()
        self.optimizer.zero_grad()
        unit = torch.ones((), device=self.ranks.device)
        sums = None
        for number, draw in enumerate(draws):
            batch = self.moved(next(batches))
            with self._unsynced() if number < len(draws) - 1 else contextlib.nullcontext():
                loss, found = self.losses(self.parallel, batch, draw.live)
                if sums is None and self.scaler.is_enabled():
                    unit = self._unit(found)
                self.scaler.scale(loss / unit).backward()
            sums = found if sums is None else sums + found
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
        """The loss to differentiate (a sum), and all named sums, detached, as rows (total, weight); 0 if not live."""
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
        return list(self.names).index("loss")

    def means(self, sums: Tensor) -> dict[str, float]:
        """Named figures of summed losses. Waits for the device."""
        return {
            name: kind.value(total, weight)
            for (name, kind), (total, weight) in zip(self.names.items(), sums.tolist(), strict=True)
        }

    def judged(self) -> nn.Module:
        """The model that is validated and shown, in eval mode: the average where there is one."""
        return self.average.model if self.average else self.runner.eval()

    def shown(self) -> nn.Module:
        """The same, as the bare module."""
        return self.average.model if self.average else self.model.eval()

    def seed(self, seed: int) -> None:
        """Seed torch for the model: what `torch.manual_seed` does, for this rank's device alone.

        On a machine without GPU that function keeps a traceback of each call, for the GPU to come.
        """
        torch.default_generator.manual_seed(seed)
        if self.ranks.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif self.ranks.device.type == "mps":
            torch.mps.manual_seed(seed)

    def moved(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.ranks.device, non_blocking=True) for name, tensor in batch.items()}

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state. The settings' betas, eps and weight decay win over the state's."""
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
        """Let go of DDP and its group, also where an error's traceback keeps us: see ranks."""
        self.parallel = self.runner

    def _unsynced(self) -> contextlib.AbstractContextManager[None]:
        parallel = self.parallel
        return (
            parallel.no_sync() if isinstance(parallel, DistributedDataParallel) else contextlib.nullcontext()
        )

    def _unit(self, found: Tensor) -> Tensor:
        weight = found[self.loss_row, 1].clone()
        self.ranks.sum_(weight)
        return torch.exp2(torch.round(torch.log2(weight.clamp(min=1)))).float()


class _WithIdle(nn.Module):
    """A model and one parameter that nothing uses: else DDP warns, on each rank, that it found none."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self.idle = nn.Parameter(torch.zeros((), device=device))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)

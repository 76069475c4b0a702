"""The numbers of a step: learning rate, clipping, averaging."""

import pytest
import torch
from torch import nn

from kwela.config import Optim, Scheduler
from kwela.engine import optim

SCHEDULE = Scheduler(warmup_steps=500, min_lr_ratio=0.1)


def test_the_rate_warms_up_and_ends_at_the_set_ratio():
    assert optim.rate(10, 16_000, 1e-5, SCHEDULE) == pytest.approx(
        2e-7
    )  # the playbook's line, with its true value
    assert optim.rate(500, 16_000, 1e-5, SCHEDULE) == pytest.approx(1e-5)
    assert optim.rate(8_250, 16_000, 1e-5, SCHEDULE) == pytest.approx(5.5e-6)  # half-way down
    assert optim.rate(16_000, 16_000, 1e-5, SCHEDULE) == pytest.approx(1e-6)
    rates = [optim.rate(step, 16_000, 1e-5, SCHEDULE) for step in range(500, 16_001)]
    assert rates == sorted(rates, reverse=True)


def test_a_run_shorter_than_its_warm_up_only_warms_up():
    assert optim.rate(20, 20, 1.0, SCHEDULE) == pytest.approx(20 / 500)


def test_only_matrices_decay():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    model[0].weight.requires_grad_(True)
    decaying, plain = optim.adamw(model, Optim(weight_decay=0.3)).param_groups
    assert [tuple(p.shape) for p in decaying["params"]] == [(3, 3)] and decaying["weight_decay"] == 0.3
    assert [tuple(p.shape) for p in plain["params"]] == [(3,)] * 3 and plain["weight_decay"] == 0


def test_what_is_frozen_is_not_optimised():
    model = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 1))
    assert sum(len(group["params"]) for group in optim.adamw(model, Optim()).param_groups) == 2


@pytest.mark.parametrize("largest", [0.5, 1e9])
def test_rescaling_divides_and_clips_as_torch_does(largest):
    torch.manual_seed(1)
    ours = [torch.randn(4, 3), torch.randn(7)]
    theirs = [nn.Parameter(torch.zeros_like(grad)) for grad in ours]
    for parameter, grad in zip(theirs, ours, strict=True):
        parameter.grad = grad / 12
    norm = nn.utils.clip_grad_norm_(theirs, largest)
    assert optim.rescale(ours, torch.tensor(1 / 12), largest) == pytest.approx(norm.item(), rel=1e-6)
    for parameter, grad in zip(theirs, ours, strict=True):
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-5, atol=1e-7)


def test_the_average_follows_slowly_and_buffers_at_once():
    model = nn.BatchNorm1d(2)
    average = optim.WeightAverage(model, 0.999)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(5.0)
    average.update(1)  # decay 2 / 11
    assert average.model.weight[0].item() == pytest.approx(1 * 2 / 11 + 3 * 9 / 11)
    assert average.model.running_mean[0] == 5
    average.update(10**9)  # decay .999
    assert average.model.weight[0].item() == pytest.approx(0.999 * (1 * 2 / 11 + 3 * 9 / 11) + 0.001 * 3)
    assert not average.model.weight.requires_grad

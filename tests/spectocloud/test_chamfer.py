"""The Chamfer distance is the broadcast form's, value and gradients, without its memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kwela.spectocloud import chamfer as module
from kwela.spectocloud.chamfer import chamfer, chamfer_with_matches


def broadcast(pred: Tensor, target: Tensor) -> Tensor:
    """All pairs at once, as the formula is written."""
    squared = (pred[:, :, None] - target[:, None]).square().sum(-1)
    return squared.min(2).values.mean() + squared.min(1).values.mean()


def clouds(n: int, m: int, batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n + m)
    pred = torch.rand(batch, n, 3, generator=generator, dtype=torch.float64).requires_grad_()
    return pred, torch.rand(batch, m, 3, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize(("n", "m"), [(400, 400), (100, 333), (1, 5)])
def test_value_and_both_gradients_are_those_of_the_broadcast_form(n: int, m: int) -> None:
    pred, target = clouds(n, m)
    ours, theirs = chamfer(pred, target), broadcast(pred, target)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    for got, expected in zip(
        torch.autograd.grad(ours, (pred, target)), torch.autograd.grad(theirs, (pred, target)), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
        assert got.abs().sum() > 0


def test_matches_are_the_nearest_points_both_ways() -> None:
    pred, target = clouds(50, 70)
    matched = chamfer_with_matches(pred, target)
    distances = torch.cdist(pred, target)
    assert torch.equal(matched.to_target, distances.argmin(2))
    assert torch.equal(matched.to_pred, distances.argmin(1))


def test_blocks_find_what_trees_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 10_000)  # so that one cloud takes several blocks
    pred, target = (cloud.detach() for cloud in clouds(300, 257))
    matched = chamfer_with_matches(pred, target)
    assert torch.equal(matched.to_target, module._nearest_by_blocks(pred, target))
    assert torch.equal(matched.to_pred, module._nearest_by_blocks(target, pred))


def test_a_point_that_is_not_finite_shows_in_its_clouds_distance_alone() -> None:
    pred, target = (cloud.detach().clone() for cloud in clouds(50, 50))
    pred[1, 7, 2] = torch.nan
    pred.requires_grad_()
    distance = chamfer_with_matches(pred, target).distance
    assert distance.isnan().tolist() == [False, True, False]
    (gradient,) = torch.autograd.grad(distance.sum(), pred)
    assert gradient[1].isnan().all() and gradient[[0, 2]].isfinite().all()


def test_it_is_zero_for_equal_clouds_in_any_order_and_symmetric() -> None:
    pred, target = (cloud.detach() for cloud in clouds(200, 200))
    assert chamfer(pred, pred.flip(1)) == 0
    torch.testing.assert_close(chamfer(pred, target), chamfer(target, pred))
    assert chamfer(pred, target) > 0


def test_moving_down_the_gradient_brings_the_clouds_together() -> None:
    pred, target = (cloud.detach() for cloud in clouds(200, 200))
    first = chamfer(pred, target)
    for _ in range(50):
        pred.requires_grad_()
        pred = (pred - 20 * torch.autograd.grad(chamfer(pred, target), pred)[0]).detach()
    assert chamfer(pred, target) < 0.2 * first


@pytest.mark.parametrize(
    ("pred", "target", "words"),
    [((2, 5, 3), (3, 5, 3), "must be"), ((5, 3), (5, 3), "must be"), ((1, 0, 3), (1, 5, 3), "empty")],
)
def test_clouds_that_do_not_fit_are_refused(pred: tuple, target: tuple, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        chamfer(torch.zeros(pred), torch.zeros(target))

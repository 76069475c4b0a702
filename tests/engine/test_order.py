"""Draws are functions of (seed, epoch, index), whatever the workers and ranks."""

import numpy as np
import pytest

from kwela.engine import order


def test_a_permutation_is_a_function_of_seed_and_epoch():
    first = order.permutation(7, 1, 1000)
    assert sorted(first) == list(range(1000))
    assert (first == order.permutation(7, 1, 1000)).all()
    assert (first != order.permutation(7, 2, 1000)).any()
    assert (first != order.permutation(8, 1, 1000)).any()


def test_an_item_draws_the_same_in_any_process_and_order():
    draws = {(e, i): order.item_rng(7, e, i).random(4).tolist() for e in range(3) for i in range(50)}
    again = {key: order.item_rng(7, *key).random(4).tolist() for key in reversed(draws)}
    assert draws == again
    assert len({tuple(draw) for draw in draws.values()}) == len(draws)


def test_seeds_for_different_uses_do_not_meet():
    seeds = [order.init_seed(7)]
    seeds += [
        seed(7, step, rank)
        for seed in (order.step_seed, order.evaluation_seed)
        for step in range(9)
        for rank in range(3)
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("count", "batch", "ranks"), [(24, 4, 1), (24, 4, 2), (23, 4, 2), (23, 4, 3), (1, 4, 3), (5, 2, 4)]
)
def test_ranks_share_a_step_without_loss_or_repeat(count, batch, ranks):
    indexes = order.permutation(1, 1, 100)[:count]
    dealt = [order.micro_batches(indexes, 1, batch, rank, ranks) for rank in range(ranks)]
    assert (
        len({len(draws) for draws in dealt}) == 1
    )  # as many micro-batches each: they meet in the same collectives
    live = [
        draw.indexes for number in range(len(dealt[0])) for draws in dealt if (draw := draws[number]).live
    ]
    assert np.concatenate(live).tolist() == indexes.tolist()  # and in the order of one rank
    assert all(len(draw.indexes) > 0 for draws in dealt for draw in draws)

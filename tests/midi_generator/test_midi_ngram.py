"""The baselines: against plain counting, and as probabilities."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from midi_songs import a_song

from kwela.midi_generator import ngram
from kwela.music import tokens


def toy(seed: int, songs: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        np.array([tokens.BOS, *np.minimum(rng.geometric(0.3, 40), 9), tokens.EOS], np.int16)
        for _ in range(songs)
    ]


def plain_kneser_ney(train: list[np.ndarray], ids: np.ndarray, order: int) -> list[float]:
    """Chen & Goodman's eq. 27-30 with dictionaries."""

    def grams(song: np.ndarray, n: int) -> list[tuple[int, ...]]:
        padded = [tokens.BOS] * max(0, n - 2) + song.tolist()
        first = len(padded) - (len(song) - 1)
        return [tuple(padded[i - n + 1 : i + 1]) for i in range(first, len(padded))]

    counts: dict[int, Counter] = {order: Counter(g for song in train for g in grams(song, order))}
    for n in range(order - 1, 0, -1):
        counts[n] = Counter(g[1:] for g in counts[n + 1])

    def probability(gram: tuple[int, ...]) -> float:
        if not gram:
            return 1 / tokens.VOCAB
        table = counts[len(gram)]
        times = Counter(table.values())
        y = times[1] / max(1, times[1] + 2 * times[2])
        d = [
            0.0,
            *(
                float(np.clip(k - (k + 1) * y * times[k + 1] / max(1, times[k]), 0.05, k - 0.05))
                for k in (1, 2, 3)
            ),
        ]
        followers = {g: c for g, c in table.items() if g[:-1] == gram[:-1]}
        lower = probability(gram[1:])
        if not followers:
            return lower
        freed = sum(d[min(c, 3)] for c in followers.values())
        own = table[gram]
        return (own - d[min(own, 3)] + freed * lower) / sum(followers.values())

    return [-float(np.log(probability(gram))) for gram in grams(ids, order)]


@pytest.mark.parametrize("order", [1, 2, 4])
def test_tables_agree_with_plain_counting(order: int) -> None:
    train, (held_out,) = toy(0), toy(1, 1)
    ours = ngram.surprise(ngram.fit(train, order), held_out)
    assert len(ours) == len(held_out) - 1
    assert ours == pytest.approx(plain_kneser_ney(train, held_out, order))


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("copied", [False, True])
def test_probabilities_of_all_ids_sum_to_one(order: int, copied: bool) -> None:
    train = [a_song(seed) for seed in range(3)]
    levels = ngram.fit(ngram.copies(train, 4) if copied else train, order)
    for history in (a_song(0)[:30], a_song(9)[:7], np.array([tokens.BOS, 5, 6, 7])):
        whole = sum(
            np.exp(-ngram.surprise(levels, np.append(history, one).astype(np.int64))[-1])
            for one in range(tokens.VOCAB)
        )
        assert whole == pytest.approx(1, abs=1e-9)


def test_more_context_predicts_repetitive_music_better_and_noise_not() -> None:
    loop = np.array([tokens.BOS, *[60, 62, 60, 64] * 60, tokens.EOS])
    noise = [
        np.array([tokens.BOS, *np.random.default_rng(s).integers(0, 128, 240), tokens.EOS]) for s in (0, 1)
    ]

    def means(train: np.ndarray, held_out: np.ndarray) -> list[float]:
        return [float(songs[0].mean()) for songs in ngram.baselines([train], [held_out], 0).values()]

    one, two, four = means(loop, loop)
    assert one > two > four and four < 0.1
    one, two, four = means(*noise)
    assert four > one - 0.1


def test_the_better_of_with_and_without_copies_stands() -> None:
    song = [np.array([tokens.BOS, *[60, 64, 67] * 30, tokens.EOS])]
    up = [np.where(ids < 128, ids + 5, ids) for ids in song]
    alone = ngram.baselines(song, up, 0)["fourgram_ce"][0].mean()
    helped = ngram.baselines(song, up, 6)["fourgram_ce"][0].mean()
    assert helped < alone / 2
    assert ngram.baselines(song, song, 6)["fourgram_ce"][0].mean() == pytest.approx(
        ngram.baselines(song, song, 0)["fourgram_ce"][0].mean()
    )


def test_code_digits_are_the_ids_before_and_bos_fills_the_start() -> None:
    grams = defaultdict(list)
    for order in (1, 2, 4):
        for code in ngram.codes(np.array([tokens.BOS, 3, 4]), order).tolist():
            grams[order].append(
                [code // tokens.VOCAB**back % tokens.VOCAB for back in range(order - 1, -1, -1)]
            )
    bos = tokens.BOS
    assert grams == {1: [[3], [4]], 2: [[bos, 3], [3, 4]], 4: [[bos, bos, bos, 3], [bos, bos, 3, 4]]}

"""Evidence for slower answers from all thresholds together."""

from itertools import combinations

import numpy as np
import pytest

from headgate.core.stats.odds import GRID, NULL
from headgate.core.stats.sequential import log_mix
from headgate.core.stats.slowdown import BETS, PLACES, bets, slowdown

SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


def beyond(cells: np.ndarray) -> np.ndarray:
    """Counts per cell between thresholds -> counts beyond each threshold."""
    return np.cumsum(cells[..., ::-1], axis=-1)[..., ::-1][..., 1:].astype(float)


def evidence(own: np.ndarray, base: np.ndarray) -> np.ndarray:
    return slowdown(
        SHARES, beyond(own), own.sum(axis=-1).astype(float), beyond(base), base.sum(axis=-1).astype(float)
    )


def log_e(vector: np.ndarray) -> np.ndarray:
    """Log evidence of summed blocks."""
    _, weights = bets(SHARES)
    return log_mix(vector, weights[PLACES])


def shares_between(slower: float = 0.0) -> np.ndarray:
    from scipy.special import ndtr, ndtri

    below = ndtr(ndtri(np.asarray(SHARES)) - slower)
    return np.diff(np.concatenate(([0.0], below, [1.0])))


def test_equal_arms_expect_no_evidence():
    """Every way to hand 4 of 9 answers to the challenger, each as likely: the mean ratio of every bet is 1."""
    cells = np.array([0, 0, 0, 0, 1, 2, 3, 5, 6])
    found = []
    for own in combinations(range(9), 4):
        mine = np.bincount(cells[list(own)], minlength=7)
        found.append(evidence(mine[None], (np.bincount(cells, minlength=7) - mine)[None])[0])

    np.testing.assert_allclose(np.exp(found).mean(axis=0), 1.0, atol=1e-9)


def test_blocks_add_and_empty_ones_say_nothing():
    rng = np.random.default_rng(1)
    own, base = rng.multinomial(30, shares_between(), 5), rng.multinomial(570, shares_between(), 5)
    empty = np.zeros((1, 7), dtype=int)

    assert evidence(own, base).shape == (5, BETS)
    assert not evidence(empty, base[:1]).any()
    assert not evidence(own[:1], empty).any()


def test_every_bet_is_on_slower_answers_only():
    places, weights = bets(SHARES)

    assert (places >= NULL).all()
    assert (places < len(GRID)).all()
    assert np.exp(weights).sum() == pytest.approx(1)


@pytest.mark.parametrize("faster", [-0.3, -1.0])
def test_a_faster_challenger_raises_no_evidence(faster):
    rng = np.random.default_rng(2)
    own, base = rng.multinomial(30, shares_between(faster), 400), rng.multinomial(570, shares_between(), 400)

    assert log_e(np.cumsum(evidence(own, base), axis=0)).max() < np.log(20)


def test_equal_arms_are_rarely_suspected():
    """200 runs of 300 looks; at most alpha = .05 of them ever reach 20 (Ville), bound at one in a thousand."""
    rng = np.random.default_rng(3)
    suspected = 0
    for _ in range(200):
        own, base = rng.multinomial(30, shares_between(), 300), rng.multinomial(570, shares_between(), 300)
        suspected += log_e(np.cumsum(evidence(own, base), axis=0)).max() >= np.log(20)

    assert suspected <= 21


def test_a_fifth_slower_is_proven_within_a_few_looks():
    """Log latency up by .36 standard deviations (x1.2 at sigma .5): 73 requests are the least, 250 are plenty."""
    rng = np.random.default_rng(4)
    needed = []
    for _ in range(100):
        own, base = rng.multinomial(30, shares_between(0.365), 40), rng.multinomial(570, shares_between(), 40)
        found = log_e(np.cumsum(evidence(own, base), axis=0))
        needed.append(30 * (1 + int((found >= np.log(100)).argmax())))

    assert np.mean(needed) < 180


def test_huge_counts_neither_overflow_nor_vanish():
    own = np.array([[5, 2, 1, 1, 1, 0, 0]]) * 10**6
    base = np.array([[50, 25, 15, 5, 4, 1, 0]]) * 10**5

    assert np.isfinite(evidence(own, base)).all()

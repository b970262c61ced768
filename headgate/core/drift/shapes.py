"""From stacked sums of days to distances: of the columns' values, of their missing shares, of their correlations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from headgate.core.drift.contrasts import Contrasts
from headgate.core.drift.distance import Moves, Swing, of_normals, of_numbers, of_shares
from headgate.core.drift.grid import SCORE_STEP, Grid
from headgate.core.drift.sums import DaySums
from headgate.core.evidence import Floats

_STRONGEST = 0.995
DOUBT = 0.1
"""Share of the sampling noise added where persistence is estimated, so that noise alone shows none."""


@dataclass(frozen=True)
class Stack:
    """The days' counts side by side, baseline then window.

    Attributes:
        counts: shape (grid.size + 1, days), the last bin always 0.
        rows: shape (days,).
    """

    grid: Grid
    sums: Sequence[DaySums]
    contrasts: Contrasts
    counts: NDArray[np.float32]
    rows: Floats

    @cached_property
    def numbers(self) -> NDArray[np.float32]:
        """Counts of the number columns, shape (bins, columns, days)."""
        return self.counts.take(self.grid.number_bins, axis=0)

    @classmethod
    def of(cls, grid: Grid, sums: Sequence[DaySums], contrasts: Contrasts) -> "Stack":
        """From the sums of the days that the contrasts weigh."""
        counts = np.zeros((grid.size + 1, len(sums)), np.float32)
        for place, day in enumerate(sums):
            counts[:-1, place] = day.counts
        return cls(grid, sums, contrasts, counts, np.array([day.rows for day in sums], dtype=np.float64))


@dataclass(frozen=True, slots=True)
class Relations:
    """Correlations of normal scores by pair (`grid.correlated`, upper triangle): in the baseline, in the window, and p."""

    before: Floats
    now: Floats
    p: Floats


@dataclass(frozen=True, slots=True)
class Shapes:
    """Everything that was compared: number columns by the order of `grid.numbers`, texts by `grid.texts`, states (a value,
    missing, of another kind) by `grid.columns`.

    Attributes:
        persistence: how much a day resembles the one before it in where it lies, 0-0.95.
    """

    numbers: Moves
    texts: Moves
    states: Moves
    relations: Relations
    persistence: float


@dataclass(frozen=True, slots=True)
class _Compared:
    """Contrasts of shares by (bin, column, stretch), cumulated over the bins for numbers.

    Attributes:
        variance: shape (stretches + 1, columns), of a difference of shares in units of share (1 - share).
        usual: shape (bins, columns), the baseline's shares.
    """

    between: NDArray[np.float32]
    variance: Floats
    usual: NDArray[np.float32]


def shapes_of(stack: Stack) -> Shapes:
    """All distances of one subject's window."""
    grid = stack.grid
    numbers, texts = (
        _compared(stack, stack.numbers, is_number=True),
        _compared(stack, stack.counts.take(grid.text_bins, axis=0), is_number=False),
    )
    persistence = _persistence(stack, [one for one in (numbers, texts) if one.between.size])
    swing = Swing.of(stack.contrasts, persistence)
    return Shapes(
        numbers=_number_moves(numbers, swing),
        texts=_share_moves(texts, swing),
        states=_share_moves(_states(stack), swing),
        relations=_relations(stack, swing),
        persistence=persistence,
    )


def _compared(stack: Stack, counts: NDArray[np.float32], *, is_number: bool) -> _Compared:
    """A day without any value of a column takes the shares of its whole baseline, it says nothing; the variance of a
    stretch of such days is NaN, and of all where the baseline has no value."""
    contrasts = stack.contrasts
    present = counts.sum(axis=0)
    empty = present == 0
    whole = counts[:, :, : contrasts.baseline].sum(axis=2)
    held = whole.sum(axis=0)
    whole /= np.maximum(held, 1)
    shares: NDArray[np.float32] = counts / np.maximum(present, 1)
    inverse = np.where(empty, 0.0, 1 / np.maximum(present, 1)).T
    variance = contrasts.squared @ inverse
    if empty.any():
        for column, day in np.argwhere(empty):
            shares[:, column, day] = whole[:, column]
        own = np.maximum(contrasts.weights, 0.0)
        variance[own @ empty.T >= own.sum(axis=1)[:, None] - 1e-9] = np.nan
        variance[:, held == 0] = np.nan
    between = _between(contrasts, shares)
    if is_number:
        whole = np.cumsum(whole, axis=0)
        for place in range(1, len(between)):
            between[place] += between[place - 1]
    return _Compared(between, variance, whole)


def _states(stack: Stack) -> _Compared:
    grid, contrasts, rows = stack.grid, stack.contrasts, stack.rows.astype(np.float32)
    missing, wrong = (stack.counts.take(places, axis=0) for places in (grid.missing_bins, grid.wrong_bins))
    states = np.stack((rows - missing - wrong, missing, wrong))
    usual = states[:, :, : contrasts.baseline].sum(axis=2) / rows[: contrasts.baseline].sum()
    states /= rows
    variance = np.repeat((contrasts.squared @ (1 / stack.rows))[:, None], states.shape[1], axis=1)
    return _Compared(_between(contrasts, states), variance, usual)


def _between(contrasts: Contrasts, shares: NDArray[np.float32]) -> NDArray[np.float32]:
    bins, columns, days = shares.shape
    between: NDArray[np.float32] = shares.reshape(-1, days) @ contrasts.weights.T.astype(np.float32)
    return between.reshape(bins, columns, len(contrasts.weights))


def _number_moves(compared: _Compared, swing: Swing) -> Moves:
    if not compared.between.size:
        return Moves.none()
    return of_numbers(np.abs(compared.between).max(axis=0).T.astype(np.float64), compared.variance, swing)


def _share_moves(compared: _Compared, swing: Swing) -> Moves:
    if not compared.between.size:
        return Moves.none()
    distances = np.abs(compared.between).sum(axis=0, dtype=np.float64).T / 2
    roughness = np.sqrt(np.maximum(0.0, compared.usual * (1 - compared.usual))).sum(axis=0) / 2
    return of_shares(distances, compared.variance, roughness, swing)


def _persistence(stack: Stack, compared: Sequence[_Compared]) -> float:
    """How much neighbouring stretches lie on the same side, over all columns and bins, sampling taken off.

    Neighbours share references and, when long, days; what that alone correlates is known from the weights.
    """
    steps = stack.contrasts.weights[:-1]
    if len(steps) < 3:
        return 0.0
    shared = float(np.einsum("ud,ud,d->", steps[:-1], steps[1:], 1 / stack.rows))
    own = float(np.einsum("ud,ud,d->", steps, steps, 1 / stack.rows))
    together = apart = noise = 0.0
    for one in compared:
        between = one.between[:, :, :-1].reshape(-1, len(steps))
        variance = np.nan_to_num(one.variance[:-1]).sum(axis=0)
        rough = float(((one.usual * (1 - one.usual)).sum(axis=0) * variance).sum()) / own
        together += float(np.einsum("cu,cu->", between[:, :-1], between[:, 1:])) - rough * shared
        apart += float(np.einsum("cu,cu->", between, between)) - rough * own
        noise += rough * own
    return stack.contrasts.persistence(together / max(apart + DOUBT * noise, DOUBT * noise, 1e-12))


def _relations(stack: Stack, swing: Swing) -> Relations:
    """Fisher's z of each day's correlations, compared as the columns are.

    References:
        Fisher 1921, Metron 1, p. 3-32: atanh r is normal with variance 1 / (n - 3).
    """
    contrasts = stack.contrasts
    if not stack.grid.pairs:
        return Relations(*(np.empty(0) for _ in range(3)))
    z = np.arctanh(np.clip(_correlations(stack), -_STRONGEST, _STRONGEST))
    variance = (contrasts.squared @ (1 / np.maximum(stack.rows - 3, 1)))[:, None]
    p, _ = of_normals(contrasts.weights @ z, variance, swing)
    return Relations(np.tanh(contrasts.reference @ z), np.tanh(contrasts.window @ z), p)


def _correlations(stack: Stack) -> Floats:
    """Shape (days, pairs); 0 where one of the two does not move."""
    grid = stack.grid
    chosen = np.searchsorted(grid.numbers, grid.correlated)
    n = stack.rows[:, None]
    first, second = (
        np.einsum("bkd,bk->dk", stack.numbers, scores)[:, chosen] / n
        for scores in (grid.score_table, grid.score_table**2)
    )
    mean, spread = first, np.sqrt(np.maximum(0.0, second - first**2))
    one, other = grid.pair_places
    together = (
        np.stack([day.products for day in stack.sums]) / (n * SCORE_STEP**2) - mean[:, one] * mean[:, other]
    )
    both = spread[:, one] * spread[:, other]
    found: Floats = np.divide(together, both, out=np.zeros_like(both), where=both > 1e-9)
    return found

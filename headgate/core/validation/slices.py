"""Parts of the holdout by the values of one column, and how a candidate does in each (RK-93)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.core.validation.finding import Finding
from headgate.core.validation.measures import Texts

MIN_ROWS = 50
"""A smaller slice says nothing by itself; all such are looked at together."""
OTHERS = "(others)"
_MOST_VALUES = 12
_SHOWN = 5


def slice_of(values: NDArray[Any]) -> Texts:
    """Each row's slice: its value; of a number with many values, the quarter that it lies in; `missing`."""
    if values.dtype.kind not in "fiu":
        return np.array(["missing" if value is None else str(value) for value in values], dtype=object)
    numbers = values.astype(np.float64)
    known = np.isfinite(numbers)
    distinct = np.unique(numbers[known])
    named = np.full(len(numbers), "missing", dtype=object)
    if len(distinct) <= _MOST_VALUES:
        named[known] = [f"{value:g}" for value in numbers[known]]
        return named
    edges = np.unique(np.quantile(numbers[known], (0.25, 0.5, 0.75)))
    bounds = ["-inf", *(f"{edge:g}" for edge in edges), "inf"]
    places = np.searchsorted(edges, numbers[known], side="left")
    named[known] = [f"({bounds[place]}, {bounds[place + 1]}]" for place in places]
    return named


def judge_slice(
    column: str,
    slices: Texts | None,
    candidate: NDArray[np.bool_],
    champion: NDArray[np.bool_] | None,
    max_drop: float,
) -> Finding:
    """Whether the candidate is less often right than the champion in any slice of a column, by more than `max_drop` (0-1).

    A slice of fewer than 50 rows is not judged by itself but with the others that small, and that is said.
    """
    name = f"slice:{column}"
    if slices is None:
        told = f"{column} is not among the logged inputs: correct validation.slices"
        return Finding(name, passed=False, value=None, limit=max_drop, sentence=told)
    large, small = _by_size(slices)
    accuracies = {part: _accuracies(mask, candidate, champion) for part, mask in large.items()}
    detail = {"slices": accuracies, "too_small": small}
    unjudged = f"; too few rows to judge: {_list(small)}" if small else ""
    if champion is None:
        told = f"no champion to compare slices of {column} with{unjudged}"
        return Finding(name, passed=True, value=None, limit=max_drop, sentence=told, detail=detail)
    if not accuracies:
        told = f"no slice of {column} has {MIN_ROWS} rows, not even all together{unjudged}"
        return Finding(name, passed=False, value=None, limit=max_drop, sentence=told, detail=detail)
    drops = {part: one["champion"] - one["candidate"] for part, one in accuracies.items()}
    worst = max(drops, key=lambda part: drops[part] if math.isfinite(drops[part]) else math.inf)
    passed = all(drop <= max_drop for drop in drops.values())
    told = (
        f"largest drop of accuracy in a slice of {column}: {drops[worst]:+.3f} in {worst}"
        f" ({accuracies[worst]['rows']} rows), limit {max_drop:g}{unjudged}"
    )
    return Finding(name, passed=passed, value=drops[worst], limit=max_drop, sentence=told, detail=detail)


def _by_size(slices: Texts) -> tuple[dict[str, NDArray[np.bool_]], dict[str, int]]:
    names, places, counts = np.unique(slices.astype(str), return_inverse=True, return_counts=True)
    large = {
        str(name): places == place
        for place, (name, count) in enumerate(zip(names, counts, strict=True))
        if count >= MIN_ROWS
    }
    small = {str(name): int(count) for name, count in zip(names, counts, strict=True) if count < MIN_ROWS}
    together = np.isin(places, np.flatnonzero(counts < MIN_ROWS))
    if int(together.sum()) >= MIN_ROWS:
        large[OTHERS] = together
    return large, small


def _accuracies(
    mask: NDArray[np.bool_], candidate: NDArray[np.bool_], champion: NDArray[np.bool_] | None
) -> Mapping[str, Any]:
    told = {"rows": int(mask.sum()), "candidate": float(candidate[mask].mean())}
    return told if champion is None else told | {"champion": float(champion[mask].mean())}


def _list(small: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} ({count})" for name, count in list(small.items())[:_SHOWN])
    return shown + (f" and {len(small) - _SHOWN} more" if len(small) > _SHOWN else "")

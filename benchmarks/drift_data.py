"""Columns with known shifts: 48 of numbers in four shapes and four of words, as `columns_of` hands them to the product."""

from typing import Any, Literal, get_args

import numpy as np

from headgate.core.drift.columns import Column

Shift = Literal[
    "A/A", ".1 sd in 3 of 52", ".3 sd in 3 of 52", "correlation flips in 2 of 52", "10 points of 1 category"
]
SHIFTS: tuple[Shift, ...] = get_args(Shift)
WIDTH = 52
WORDS = 4
_LIKELY = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05])
_WORDS = np.array([f"value-{place}" for place in range(len(_LIKELY))], dtype=object)
TOGETHER = 0.6
"""Correlation of the first two columns; those of a flip have its opposite."""


def moved(shift: Shift) -> tuple[str, ...]:
    """The columns that a method should name."""
    return {
        "A/A": (),
        ".1 sd in 3 of 52": ("n04", "n05", "n06"),
        ".3 sd in 3 of 52": ("n04", "n05", "n06"),
        "correlation flips in 2 of 52": ("n00", "n01"),
        "10 points of 1 category": ("w00",),
    }[shift]


def draw(rows: int, shift: Shift, random: np.random.Generator, width: int = WIDTH) -> dict[str, Column]:
    """That many rows. A shift of .1 sd moves every value by a tenth of its column's standard deviation."""
    numbers = random.standard_normal((width - WORDS, rows))
    sign = -1.0 if shift.startswith("correlation") else 1.0
    numbers[1] = sign * TOGETHER * numbers[0] + np.sqrt(1 - TOGETHER**2) * numbers[1]
    if shift.endswith("3 of 52"):
        numbers[4:7] += float(shift.split()[0])
    columns: dict[str, Column] = {f"n{place:02d}": _shape(place, row) for place, row in enumerate(numbers)}
    for place in range(WORDS):
        likely = _LIKELY.copy()
        if place == 0 and shift.startswith("10 points"):
            likely[:2] += (-0.1, 0.1)
        columns[f"w{place:02d}"] = random.choice(_WORDS, rows, p=likely)
    return columns


def _shape(place: int, normal: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """By turns normal, skewed, bounded, and whole numbers."""
    shapes = (
        lambda z: z,
        np.exp,
        lambda z: np.tanh(z / 2),
        lambda z: np.floor(3 * z),
    )
    made: np.ndarray[Any, Any] = shapes[place % 4](normal)
    return made

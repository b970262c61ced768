"""The world of the drift story: a laboratory that measures cell nuclei, before and after it buys another microscope.

The rows are scikit-learn's breast_cancer (569 patients, the ten means of each), measured anew each time: a row is a patient
plus an error of a twentieth of the column's spread. Three groups of patients never meet: those that the first champion
learned from, those of the simulated days, and those on whom the retrained version is released.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer

Rows = NDArray[np.float64]
Labels = NDArray[np.object_]

MALIGNANT, BENIGN = "malignant", "benign"
COLUMNS: Final = (
    "mean radius", "mean texture", "mean perimeter", "mean area", "mean smoothness",
    "mean compactness", "mean concavity", "mean concave points", "mean symmetry", "mean fractal dimension",
)  # fmt: skip
LENS = 1.3
"""How much longer the new microscope measures lengths; areas grow by its square."""
OUTLINE = 1.4
"""How much more concave its finer outlines are."""
MOVED: Final = ("mean radius", "mean perimeter", "mean area", "mean concavity", "mean concave points")
"""The columns that the new microscope changes."""
STAINED_FROM = 21.0
"""Mean texture from which a slide counts as stained by the robot whose export swaps the two diagnoses."""
_ERROR = 0.05
_GROUP = 190


@dataclass(frozen=True, slots=True)
class Sample:
    """Measured patients. `rows` has shape (n, 10) in the order of `COLUMNS`; `labels` are the true diagnoses."""

    rows: Rows
    labels: Labels

    def __add__(self, other: "Sample") -> "Sample":
        return Sample(np.vstack([self.rows, other.rows]), np.concatenate([self.labels, other.labels]))


class World:
    """Where samples come from; the same seed gives the same patients.

    Args:
        seed: of the groups and of every draw.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        order = self._random.permutation(len(self._patients[0]))
        self._groups = {
            "first": order[:_GROUP],
            "days": order[_GROUP : 2 * _GROUP],
            "new": order[2 * _GROUP :],
        }

    @cached_property
    def _patients(self) -> tuple[Rows, Labels]:
        data = load_breast_cancer()
        # scikit-learn: 0 is malignant.
        return data.data[:, : len(COLUMNS)], np.where(data.target == 0, MALIGNANT, BENIGN).astype(object)

    def measure(self, group: str, count: int, *, moved: bool) -> Sample:
        """Measure so many patients of a group (`first`, `days`, `new`), with the new microscope when `moved`."""
        rows, labels = self._patients
        chosen = self._random.choice(self._groups[group], count)
        error = self._random.normal(0.0, _ERROR, (count, len(COLUMNS))) * rows.std(axis=0)
        measured: Rows = np.clip(rows[chosen] + error, 0.0, None)
        return Sample(new_microscope(measured) if moved else measured, labels[chosen])


def new_microscope(rows: Rows) -> Rows:
    """The same nuclei through the new lens: what a number means for the diagnosis moves with the number."""
    seen = rows.copy()
    for name, factor in zip(MOVED, (LENS, LENS, LENS**2, OUTLINE, OUTLINE), strict=True):
        seen[:, COLUMNS.index(name)] *= factor
    return seen


def swapped(rows: Rows, labels: Labels) -> Labels:
    """The diagnoses as the robot's broken export tells them: swapped for every slide it has stained."""
    stained = rows[:, COLUMNS.index("mean texture")] >= STAINED_FROM
    other = np.where(labels == MALIGNANT, BENIGN, MALIGNANT)
    told: Labels = np.where(stained, other, labels)
    return told

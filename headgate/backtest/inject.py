"""Faults put into the challenger's rows, to see when they would be found."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from headgate.backtest.columns import MISSING
from headgate.backtest.trial import Rows, latency_bins
from headgate.core.evidence import ERROR_CATEGORIES
from headgate.errors import BadRequestError

_FORM = re.compile(
    r"(?:(error)=\+(\d+(?:\.\d+)?)(?:%|pp)|(latency)=x(\d+(?:\.\d+)?)|(accuracy)=-(\d+(?:\.\d+)?)(?:%|pp))(?:@step(\d+))?"
)
_RULE = "be error=+1%, latency=x1.2 or accuracy=-5pp, each with @step2 behind it if it is to begin at a step"


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault.

    Attributes:
        amount: error: share of all requests that fails besides (0-1); latency: the factor, > 0; accuracy: by how much
            less often the challenger is right (0-1).
        step: from which step of the spec on, 1 = the first; 0 = from the beginning, shadow included.
    """

    kind: Literal["error", "latency", "accuracy"]
    amount: float
    step: int = 0

    @classmethod
    def parse(cls, text: str) -> "Injection":
        """Read `error=+1%`, `latency=x1.2`, `accuracy=-5pp@step2`.

        Raises:
            BadRequestError: it is none of them, or more than all.
        """
        found = _FORM.fullmatch(text.strip())
        if found is None:
            raise BadRequestError("--inject", text, _RULE)
        error, failing, latency, factor, _, wrong, step = found.groups()
        number = float(failing or factor or wrong)
        if not number > 0 or (latency is None and number > 100):
            raise BadRequestError("--inject", text, "have a number above 0, and at most 100 for a share")
        at = int(step or 0)
        if latency:
            return cls("latency", number, at)
        return cls("error" if error else "accuracy", number / 100, at)


def stages(rows: Rows, injections: Sequence[Injection], seed: int) -> list[tuple[int, Rows]]:
    """The challenger's rows from each step on: (step, rows), step 0 first.

    Faults that begin at step K are in all later stages as well. The same seed picks the same rows.
    """
    found = [(0, rows)]
    for step in sorted({one.step for one in injections}):
        changed = found[-1][1]
        for place, one in enumerate(injections):
            if one.step == step:
                changed = _changed(changed, one, np.random.default_rng((seed, place)))
        found = [*(found if step else []), (step, changed)]
    return found


def _changed(rows: Rows, fault: Injection, random: np.random.Generator) -> Rows:
    if fault.kind == "latency":
        slower = rows.latency_ms * np.float32(fault.amount)
        return replace(rows, latency_ms=slower, latency_bin=latency_bins(slower))
    if fault.kind == "error":
        fails = (rows.error == MISSING) & (random.random(len(rows), dtype=np.float32) < fault.amount)
        error = np.where(fails, ERROR_CATEGORIES.index("model"), rows.error).astype(np.int8)
        lost = np.int8(MISSING)
        return replace(
            rows,
            error=error,
            prediction=np.where(fails, MISSING, rows.prediction).astype(np.int32),
            right=np.where(fails, lost, rows.right),
        )
    right = rows.right == 1
    known = int((rows.right != MISSING).sum())
    share = min(1.0, fault.amount * known / max(1, int(right.sum())))
    turned = right & (random.random(len(rows), dtype=np.float32) < share)
    # A prediction that nobody else makes: it agrees with nothing.
    prediction = np.where(turned, np.iinfo(np.int32).max, rows.prediction).astype(np.int32)
    return replace(rows, right=np.where(turned, 0, rows.right).astype(np.int8), prediction=prediction)

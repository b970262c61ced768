"""Two versions side by side: what was measured before they were registered, and what they did since."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate.core.evidence import Sums
from headgate.gateway.gateway import Gateway
from headgate.store.arms import ARMS
from headgate.store.windows import Window
from headgate.versions import version_numbers

LATELY = timedelta(hours=24)
_DIGITS = 10
_ARMS = sorted({arm for arms in ARMS.values() for arm in arms})


def metric_differences(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Per metric that either has: both values, the second less the first, and that in percent of the first.

    A difference is None where a value is missing, the percentage also where the first value is 0.

    >>> metric_differences({"accuracy": 0.8542}, {"accuracy": 0.8601})["accuracy"]
    {'value_a': 0.8542, 'value_b': 0.8601, 'absolute_difference': 0.0059, 'percent_change': 0.69}
    """
    return {name: _difference(one.get(name), other.get(name)) for name in dict.fromkeys((*one, *other))}


def served_lately(gateway: Gateway, versions: Sequence[tuple[str, str, str]]) -> dict[str, dict[str, Any]]:
    """Name -> what the version did for users and mirrored requests in the last 24 h, in the numbers of `version_numbers`.

    Args:
        versions: (name, model, version number).

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    until = datetime.now(UTC)
    windows = [
        Window(gateway.tenant, model, number, arm, until - LATELY, until)
        for _, model, number in versions
        for arm in _ARMS
    ]
    sums = iter(gateway.services.store.read_sums(windows))
    return {name: version_numbers(sum((next(sums) for _ in _ARMS), Sums())) for name, _, _ in versions}


def _difference(first: float | None, second: float | None) -> dict[str, Any]:
    difference = None if first is None or second is None else second - first
    percent = None if difference is None or not first else round(difference / abs(first) * 100.0, 2)
    return {
        "value_a": first,
        "value_b": second,
        # What binary fractions leave behind is not a difference: 0.8601 - 0.8542 is 0.0059.
        "absolute_difference": None if difference is None else round(difference, _DIGITS),
        "percent_change": percent,
    }

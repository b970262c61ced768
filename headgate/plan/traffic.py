"""What is expected of a model's traffic, as a person writes it: `40/h`, `25%`."""

import math
from dataclasses import dataclass

from headgate.core.spec import parse_duration
from headgate.errors import BadRequestError

_PER_S = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is expected.

    Attributes:
        requests_s, labels_s: per second, of both arms together. label_delay_s: from a prediction to its label.
        accuracy, error_rate: the champion's, 0-1. agreement: share of shadow answers on which both are right or both
            are wrong, 0-1.
    """

    requests_s: float
    labels_s: float
    label_delay_s: float = 0.0
    accuracy: float = 0.9
    error_rate: float = 0.01
    agreement: float = 0.95

    def __post_init__(self) -> None:
        for name in ("accuracy", "error_rate", "agreement"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise BadRequestError(
                    name.replace("_", " "), value, "be above 0 and below 1, like 0.9 or 90%"
                )
        if not 0 < self.requests_s < math.inf:
            raise BadRequestError("rate", self.requests_s, "be above 0, like 40/h")
        if not 0 <= self.labels_s <= self.requests_s * (1 + 1e-9):
            found, most = f"{self.labels_s * 3600:g}/h", f"{self.requests_s * 3600:g}/h"
            raise BadRequestError("label rate", found, f"be from 0 to the rate of requests, {most}")
        if not 0 <= self.label_delay_s < math.inf:
            raise BadRequestError("label delay", self.label_delay_s, "be 0 seconds or more")


def parse_rate(text: str, name: str = "rate") -> float:
    """Events per second from `40/h`, `2/s`, `1200/d`.

    Raises:
        BadRequestError: anything else.

    >>> round(parse_rate("1,200/d") * 86_400)
    1200
    """
    number, _, unit = text.replace(",", "").replace(" ", "").partition("/")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if unit not in _PER_S or not 0 <= value < math.inf:
        raise BadRequestError(name, text, "be a number per s, min, h, d or w, like 40/h, 2/s or 1200/d")
    return value / _PER_S[unit]


def parse_share(text: str, name: str) -> float:
    """A rate 0-1 from `25%`, `25 %` or `0.25`.

    Raises:
        BadRequestError: anything else.

    >>> parse_share("25 %", "labelled"), parse_share("0.01", "error rate")
    (0.25, 0.01)
    """
    plain = text.strip().removesuffix("%").strip()
    try:
        value = float(plain) / (100 if plain != text.strip() else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise BadRequestError(name, text, "be a share like 25% or 0.25")
    return value


def parse_delay(text: str, name: str) -> float:
    """Seconds from `2h`, `30m`, `1d12h`.

    Raises:
        BadRequestError: anything else.
    """
    try:
        return parse_duration(text).total_seconds()
    except ValueError as err:
        raise BadRequestError(name, text, "be a length of time like 30s, 2h or 7d") from err

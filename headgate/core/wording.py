"""Numbers as a person says them: durations, counts, points, odds of a chance finding."""

import math

_YEAR_S = 365 * 86_400.0
_UNITS = ((86_400.0, "d", 3_600.0, "h"), (3_600.0, "h", 60.0, "min"))
_LOG_LARGEST = 300.0


def duration(seconds: float | None) -> str:
    """A length of time in at most two units; what nobody will wait for is said so.

    >>> duration(45), duration(11_400), duration(190_800), duration(None)
    ('45 s', '3 h 10 min', '2 d 5 h', 'unknown')
    >>> duration(float("inf")), duration(4e8)
    ('never', 'over 10 years')
    """
    if seconds is None or math.isnan(seconds):
        return "unknown"
    if math.isinf(seconds):
        return "never"
    if seconds > 10 * _YEAR_S:
        return "over 10 years"
    if seconds > 30 * 86_400:
        return f"{seconds / 86_400:,.0f} d"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 5_970:
        return f"{seconds / 60:.0f} min"
    size, name, small, small_name = next((unit for unit in _UNITS if seconds >= 2 * unit[0]), _UNITS[-1])
    rest = round(seconds / small)
    whole, part = divmod(rest, round(size / small))
    return f"{whole} {name} {part} {small_name}" if part else f"{whole} {name}"


def about(n: float | None) -> str:
    """A count to two digits, so that an estimate does not look exact.

    >>> about(1_384), about(7.4), about(1_250_000), about(float("inf"))
    ('1,400', '7', '1,200,000', 'endlessly many')
    """
    if n is None or math.isnan(n):
        return "an unknown number of"
    if math.isinf(n):
        return "endlessly many"
    if n < 100:
        return f"{n:.0f}"
    size = 10 ** (math.floor(math.log10(n)) - 1)
    return f"{round(n / size) * size:,}"


def points(difference: float) -> str:
    """A difference of two rates in percentage points.

    >>> points(0.02), points(-0.0031), points(0.00004)
    ('2 points', '-0.31 points', '0.004 points')
    """
    value = f"{100 * difference:.2g}"
    return f"{value} point{'' if value in ('1', '-1') else 's'}"


def percent(rate: float) -> str:
    """A rate in percent, with the digits that it needs.

    >>> percent(0.125), percent(0.0012), percent(0.99987), percent(1.0)
    ('12.5 %', '0.12 %', '99.987 %', '100 %')
    """
    if not math.isfinite(rate):
        return "unknown"
    near = min(abs(rate), abs(1 - rate))
    digits = 1 if near >= 0.05 or near == 0 else 2 if near >= 0.001 else 3
    return f"{100 * rate:.{digits}f}".rstrip("0").rstrip(".") + " %"


def evidence(log_e: float) -> str:
    """An e-value to two digits: 1 says nothing, 400 would come about by chance at most once in 400.

    >>> evidence(0.0), evidence(math.log(2.13)), evidence(math.log(400)), evidence(-20.0)
    ('1', '2.1', '400', '0')
    """
    if math.isnan(log_e):
        return "unknown"
    value = math.exp(min(log_e, _LOG_LARGEST))
    if value >= 1e6:
        return f"10^{log_e / math.log(10):.0f}"
    if value >= 99.5:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value >= 0.005 else "0"


def one_in(log_e: float) -> str:
    """How often chance alone would give evidence this strong: at most once in so many rollouts (Ville 1939).

    >>> one_in(-1.0), one_in(math.log(48.2)), one_in(40.0)
    ('no evidence', '1 in 48', '1 in 10^17')
    """
    if math.isnan(log_e):
        return "unknown"
    if log_e < math.log(1.5):
        return "no evidence"
    return f"1 in {evidence(log_e)}"

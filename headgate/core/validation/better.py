"""Is a former champion right more often than the one that serves? Then nothing need be trained."""

import math
from collections.abc import Sequence

from headgate.core.validation.finding import Finding, all_pass


def proven_better(findings: Sequence[Finding], alpha: float) -> float | None:
    """How sure it is that the judged version is right more often than the champion.

    What comes back in a stream, a season or a market, was often learnt once already (Gama & Kosina 2014, Knowledge and
    Information Systems 40, 489-507: recurrent concepts).

    Args:
        findings: of its validation beside the champion.
        alpha: 0-1.

    Returns:
        The one-sided p of McNemar's test (1947, Psychometrika 12), its counts divided by the design effect; None where it is
        above alpha, unknown, or any point of the validation did not pass.
    """
    pairs = next((one.detail for one in findings if one.name == "not_worse"), {})
    if not all_pass(tuple(findings)) or not pairs:
        return None
    won, lost, effect = (float(pairs[name]) for name in ("won", "lost", "design_effect"))
    z = (won - lost) / math.sqrt((won + lost) * effect) if won + lost > 0 else 0.0
    p = math.erfc(z / math.sqrt(2)) / 2
    return p if p <= alpha else None

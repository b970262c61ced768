"""Accuracy on mature labels against the baseline's, and accuracy estimated without labels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import stdtr, stdtrit

from headgate.core.drift.contrasts import Contrasts, contrasts_of
from headgate.core.drift.distance import Swing
from headgate.core.drift.performance import DailyPerformance
from headgate.core.drift.report import Estimate, PerformanceFinding, Severity
from headgate.core.drift.shapes import Stack
from headgate.core.drift.spans import Spans, spans_of
from headgate.core.drift.sums import RELIABILITY_BINS
from headgate.core.evidence import Floats
from headgate.core.monitoring import DriftSpec
from headgate.core.wording import percent, points

LEAST_LABELS = 30
_MATURE = 0.5
_HOLDS = 0.05
_LEAST_CALIBRATED = 200
_DOUBT = 0.3
"""Share of the sampling noise added where one series' persistence is estimated; see `shapes.DOUBT`."""
BLIND = "blind to the same inputs having other answers; only labels show that"


@dataclass(frozen=True, slots=True)
class _Drop:
    """A contrast of daily accuracies: reference minus window."""

    now: float
    before: float
    error: float
    freedom: float

    @property
    def drop(self) -> float:
        return self.before - self.now

    @property
    def p(self) -> float:
        """One-sided: of so large a drop by sampling and the swing of the days."""
        return float(stdtr(self.freedom, -self.drop / self.error)) if self.error > 0 else math.nan

    @property
    def at_most(self) -> float:
        """Upper bound of the drop, 95 %."""
        return self.drop - float(stdtrit(self.freedom, _HOLDS)) * self.error


def judge_performance(
    day: date, performance: Sequence[DailyPerformance], spec: DriftSpec
) -> PerformanceFinding:
    """Accuracy of the version that serves, on its newest mature labels, against what was served before.

    A day's labels are mature when they cover half as many of its requests as is usual; earlier they may be those that come
    first, which are not like the rest. The window ends at the newest mature day, which labels that come late move back;
    the baseline is counted from there.
    """
    known = [one for one in performance if one.outcomes > 0 and one.day <= day]
    mature = _mature(known)
    if not mature:
        return _unknown(
            "no labels yet: accuracy is unknown" if not known else "no day's labels are mature yet"
        )
    newest = max(one.day for one in mature)
    if newest < day - timedelta(days=spec.baseline_to):
        return _unknown(f"the newest mature labels are of {newest}: accuracy since then is unknown")
    version = max(
        (one for one in mature if one.day == newest), key=lambda one: (one.rows, one.outcomes)
    ).version
    by_day = _by_day(mature, version)
    spans = spans_of(newest, {at: int(n) for at, (n, _, _) in by_day.items()}, spec)
    window = tuple(at for at in spans.window if by_day[at][2])
    labels = int(sum(by_day[at][0] for at in window))
    if len(spans.baseline) < spans.needed or labels < LEAST_LABELS:
        return _unknown(
            f"{labels} mature labels of version {version} and {len(spans.baseline)} days before them; "
            f"{LEAST_LABELS} and {spans.needed} are needed: accuracy is unknown"
        )
    days = (*spans.baseline, *window)
    n, right = (np.array([by_day[at][part] for at in days], dtype=np.float64) for part in (0, 1))
    pooled = right.sum() / n.sum()
    found = _dropped(spans.baseline, window, right / n, (pooled * (1 - pooled) + 0.25 / n.sum()) / n, n)
    return _performance_finding(found, version, labels, window, spec)


def estimate_accuracy(stack: Stack, days: Sequence[date], spec: DriftSpec) -> Estimate | None:
    """Accuracy expected from the window's confidences, if each confidence is right as often as it was in the baseline.

    The share of right answers by confidence is the baseline's, made monotone by pooling adjacent violators.

    Returns:
        None without confidences or with fewer than 200 labels in the baseline.

    References:
        Guillory et al. 2021 (arXiv 2107.03315) and NannyML's confidence-based performance estimation. Ayer et al. 1955,
        Annals of Mathematical Statistics 26, p. 641-647 (pool adjacent violators).
    """
    first = stack.contrasts.baseline
    sums = np.stack([one.reliability for one in stack.sums]).astype(np.float64)
    held, labelled, right = sums[:, 0], sums[:first, 1].sum(axis=0), sums[:first, 2].sum(axis=0)
    with_any = held.sum(axis=1) > 0
    if labelled.sum() < _LEAST_CALIBRATED or not with_any[first:].all() or with_any[:first].sum() < 2:
        return None
    rate = calibrated(labelled, right)
    kept = np.flatnonzero(with_any)
    n = held[kept].sum(axis=1)
    expected = held[kept] @ rate / n
    spread = np.maximum(held[kept] @ rate**2 / n - expected**2, 0) + 1e-6
    chosen = [days[int(at)] for at in kept]
    split = int(with_any[:first].sum())
    found = _dropped(chosen[:split], chosen[split:], expected, spread / n, n)
    return _estimate(found, spec)


def calibrated(labelled: Floats, right: Floats) -> Floats:
    """Share of right answers by confidence bin, never falling; bins without labels lie between their neighbours."""
    some = np.flatnonzero(labelled)
    rates = isotonic_regression(right[some] / labelled[some], weights=labelled[some]).x
    between: Floats = np.interp(np.arange(RELIABILITY_BINS), some, rates)
    return between


def _mature(known: Sequence[DailyPerformance]) -> list[DailyPerformance]:
    covered = [one.outcomes / one.rows for one in known if one.rows > 0]
    usual = float(np.median(covered)) if covered else 0.0
    return [one for one in known if one.rows <= 0 or one.outcomes / one.rows >= _MATURE * usual]


def _by_day(mature: Sequence[DailyPerformance], version: str) -> dict[date, tuple[float, float, bool]]:
    """Labels, right answers, and whether they are the version's own, by day; a day of several versions is the version's."""
    by_day: dict[date, tuple[float, float, bool]] = {}
    for one in mature:
        own = one.version == version
        n, right, is_own = by_day.get(one.day, (0.0, 0.0, False))
        if own and not is_own:
            n, right = 0.0, 0.0
        if own or not is_own:
            by_day[one.day] = (n + one.outcomes, right + one.correct, own or is_own)
    return by_day


def _dropped(
    baseline: Sequence[date], window: Sequence[date], values: Floats, variance: Floats, n: Floats
) -> _Drop:
    """The window's value against its reference, with sampling and the days' own swing as its error.

    References:
        DerSimonian & Laird 1986, Controlled Clinical Trials 7, p. 177-188: variance between units by moments.
        Satterthwaite 1946, Biometrics Bulletin 2, p. 110-114: degrees of freedom of a sum of variances.
    """
    contrasts = contrasts_of(Spans(tuple(baseline), tuple(window), len(baseline)), n)
    differences, sampling = contrasts.weights @ values, contrasts.squared @ variance
    persistence = _persistence(contrasts, differences, variance) if len(differences) > 3 else 0.0
    swing = Swing.of(contrasts, persistence)
    scaled = (differences**2 - sampling)[:-1] / swing.variance[:-1]
    beyond = max(0.0, float(scaled.mean())) * float(swing.variance[-1]) if len(scaled) else 0.0
    chance = float(sampling[-1])
    # A swing that was not seen may have been missed: it is taken to be known only to its standard error.
    unsure = max(beyond, chance * math.sqrt(2 / swing.worth))
    return _Drop(
        now=float(contrasts.window @ values),
        before=float(contrasts.reference @ values),
        error=math.sqrt(chance + beyond),
        freedom=max(2.0, (chance + beyond) ** 2 / unsure**2 * max(1.0, swing.worth - 1)),
    )


def _persistence(contrasts: Contrasts, differences: Floats, variance: Floats) -> float:
    """How much neighbouring stretches lie on the same side, sampling taken off."""
    steps, moved = contrasts.weights[:-1], differences[:-1]
    own = float(np.einsum("ud,ud,d->", steps, steps, variance))
    shared = float(np.einsum("ud,ud,d->", steps[:-1], steps[1:], variance))
    together, apart = float(moved[:-1] @ moved[1:]) - shared, float(moved @ moved) - own
    return contrasts.persistence(together / max(apart + _DOUBT * own, _DOUBT * own, 1e-12))


def _performance_finding(
    found: _Drop, version: str, labels: int, window: Sequence[date], spec: DriftSpec
) -> PerformanceFinding:
    severity: Severity = "none"
    state = "unclear"
    if found.p <= spec.alpha and found.drop >= spec.min_accuracy_drop:
        state, severity = "dropped", "critical" if found.drop >= spec.critical_accuracy_drop else "high"
    elif found.at_most < spec.min_accuracy_drop:
        state = "holds"
    told = {
        "dropped": f"fell by {points(found.drop)}",
        "holds": f"holds: a drop of {points(spec.min_accuracy_drop)} is ruled out",
        "unclear": f"too few labels to rule out a drop of {points(spec.min_accuracy_drop)}",
    }[state]
    return PerformanceFinding(
        state=state,  # type: ignore[arg-type]
        accuracy=found.now,
        baseline=found.before,
        drop=found.drop,
        p=found.p,
        outcomes=labels,
        first=window[0],
        last=window[-1],
        severity=severity,
        since=None,
        sentence=(
            f"accuracy of version {version} is {percent(found.now)}, was {percent(found.before)}: {told} ({labels:,} labels "
            f"of {window[0]} to {window[-1]})"
        ),
    )


def _estimate(found: _Drop, spec: DriftSpec) -> Estimate:
    severity: Severity = "none"
    if found.p <= spec.alpha and found.drop >= spec.min_accuracy_drop:
        severity = "high" if found.drop >= spec.critical_accuracy_drop else "medium"
    return Estimate(
        accuracy=found.now,
        baseline=found.before,
        drop=found.drop,
        usual=found.error,
        severity=severity,
        since=None,
        sentence=(
            f"from its confidences accuracy is estimated at {percent(found.now)}, {percent(found.before)} before ({BLIND})"
        ),
    )


def _unknown(sentence: str) -> PerformanceFinding:
    nan = math.nan
    return PerformanceFinding("unknown", nan, nan, nan, nan, 0, None, None, "none", None, sentence)


def versions_of(performance: Sequence[DailyPerformance], days: Sequence[date]) -> Mapping[date, str]:
    """The version that answered most on each of the days, where known."""
    most: dict[date, DailyPerformance] = {}
    asked = set(days)
    for one in performance:
        if one.day in asked and (one.day not in most or one.rows > most[one.day].rows):
            most[one.day] = one
    return {at: one.version for at, one in most.items()}

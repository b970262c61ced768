"""RK7: does the challenger behave in a way that nobody expected?"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from headgate.core.checks.finding import Basis, Finding, conclude, reaches, severity
from headgate.core.checks.windows import signal
from headgate.core.evidence import Evidence, Floats, Series, Sums
from headgate.core.policies import AnomalyPolicy
from headgate.core.stats import conformal
from headgate.core.stats.anomalies import (
    METRICS,
    ONE_SIDED,
    Scales,
    Track,
    correlation_breakdown,
    level_shift,
    measure,
    newest_shift,
    outlier,
    pooled,
    scales,
)
from headgate.core.stats.correlation import breakdown
from headgate.core.verdict import Check, Outcome, Verdict

ACTIONS = (
    "enable_enhanced_monitoring",
    "increase_log_verbosity",
    "run_health_check",
    "activate_incident_response",
)
_SUMS = (
    "requests",
    "errors",
    "latency_n",
    "latency_sum_ms",
    "latency_sumsq_ms2",
    "confidence_n",
    "confidence_sum",
    "confidence_sumsq",
)
_AT_CUT_OFF = 0.8
_HISTOGRAM_MINIMUM = 100
LONG = 120
"""Points from which a series is its own yardstick: ranks in it, and its metrics' joint behaviour, tell enough."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Cut-offs: chance of a detector to fire on noise per look, Tukey's fence, smallest distance of distributions."""

    alpha: float
    fence: float
    effect: float


SENSITIVITIES: Mapping[str, Sensitivity] = {
    "low": Sensitivity(alpha=1e-5, fence=3.0, effect=0.3),
    "medium": Sensitivity(alpha=1e-4, fence=2.2, effect=0.2),
    "high": Sensitivity(alpha=1e-3, fence=1.5, effect=0.1),
}


@dataclass(frozen=True, slots=True)
class Arms:
    """Metrics per point of the challenger, of the champion (None when it has no traffic), and their difference.

    `times_s`: when each point began. `novelty`: metric -> how new its newest points are, in a long series.
    """

    times_s: Floats
    sums: Mapping[str, Floats]
    spread: Scales
    own: Mapping[str, Track]
    difference: Mapping[str, Track]
    champion_sums: Mapping[str, Floats] | None = None
    champion_spread: Scales | None = None
    champion: Mapping[str, Track] | None = None
    novelty: Mapping[str, float] = field(default_factory=dict)

    def nothing_new(self, metric: str) -> bool:
        """True when the newest points only do what their own long series did before."""
        return self.novelty.get(metric, 1.0) < 1

    @property
    def points(self) -> int:
        """Points at which every arm that counts had requests."""
        return len(self.sums["requests"])

    @property
    def newest(self) -> int:
        """How many of the points are judged against the others: a quarter, at least two."""
        return max(2, self.points // 4)


def judge_anomaly(evidence: Evidence, policy: AnomalyPolicy) -> Verdict:
    """Judge unexpected change by an ensemble of the enabled detectors (S0:238-250).

    Every detector looks at the challenger minus the concurrent champion, metric by metric (error rate, latency,
    confidence, traffic volume), the newest points against the earlier ones, so a pattern both arms share does not
    fire; without champion traffic (100 %) the challenger's own past is the yardstick. A detector's strength is 0.8 at
    the cut-off that `anomaly_detection_sensitivity` sets, and at most 1. The ensemble's confidence is the mean of the
    two strongest, so that two detectors must agree (the only one, where one is enabled). FAIL when it reaches
    `anomaly_confidence_threshold`; WARN when a single detector fires; never critical. Fewer points with requests than
    `anomaly_points_minimum` give no verdict.

    From `LONG` points on a metric counts only when its newest points are new by the long past of their own series, the
    same time of other days included, and each metric is predicted from all the others to see whether they still
    belong together. Alone, what the same time of earlier days leads one to expect is taken off first.
    """
    arms = _long(_arms(evidence))
    cut = SENSITIVITIES[policy.anomaly_detection_sensitivity]
    strengths: dict[str, float | None] = dict.fromkeys(policy.anomaly_types)
    if arms.points >= policy.anomaly_points_minimum:
        strengths = {
            name: _strength(name, evidence, arms, cut) for name in dict.fromkeys(policy.anomaly_types)
        }
    measured = sorted((value for value in strengths.values() if value is not None), reverse=True)
    confidence = None if not measured else sum(measured[:2]) / min(2, len(strengths))
    numbers: dict[str, float | None] = {
        "ensemble_confidence": confidence,
        "points": float(arms.points),
        "against_champion": float(arms.champion is not None),
        "cpu": signal(evidence, "cpu"),
        "memory": signal(evidence, "memory"),
        "novelty": max(arms.novelty.values(), default=None),
        **{f"{name}_strength": value for name, value in strengths.items()},
    }
    basis = Basis(
        check=Check.ANOMALY,
        samples=int(arms.sums["requests"].sum()),
        window_s=arms.points * evidence.challenger.series.point_s,
        numbers=numbers,
        actions=ACTIONS,
    )
    if confidence is None:
        lacking = f"{arms.points} of {policy.anomaly_points_minimum} points with requests"
        return conclude(basis, (), proven=None, lacking=lacking)
    limit = policy.anomaly_confidence_threshold
    fired = [name for name, value in strengths.items() if value is not None and reaches(value, _AT_CUT_OFF)]
    findings = [Finding(Outcome.WARN, f"{name} detected", indicator=name) for name in fired]
    if reaches(confidence, limit):
        reason = f"ensemble confidence {confidence:.4f} >= {limit:g} ({', '.join(fired) or 'several weak detectors'})"
        findings.append(
            Finding(Outcome.FAIL, reason, severity(confidence, limit, max(1.0, limit)), "ensemble")
        )
    return conclude(
        basis, findings, proven=f"ensemble confidence {confidence:.4f} < {limit:g} on {arms.points} points"
    )


def _arms(evidence: Evidence) -> Arms:
    """Points at which all arms that count had requests; the champion counts unless all traffic is the challenger's."""
    series, other = evidence.challenger.series, evidence.champion.series
    if evidence.weight_percent >= 100:
        own = _values(series, len(series.starts))
        usable = own["requests"] > 0
        own = {name: values[usable] for name, values in own.items()}
        times, spread = series.starts[usable], scales(own)
        tracks = measure(own, spread)
        # Alone, volume is the hour of the day.
        alone = {name: _seasonless(times, tracks[name]) for name in METRICS if name != "volume"}
        return Arms(times, own, spread, tracks, alone)
    length = min(len(series.starts), len(other.starts))
    own, champion = _values(series, length), _values(other, length)
    usable = (own["requests"] > 0) & (champion["requests"] > 0)
    own = {name: values[usable] for name, values in own.items()}
    champion = {name: values[usable] for name, values in champion.items()}
    spread, champion_spread = scales(own), scales(champion)
    tracks, others = measure(own, spread), measure(champion, champion_spread)
    difference = {name: tracks[name] - others[name] for name in METRICS}
    times = series.starts[len(series.starts) - length :][usable]
    return Arms(times, own, spread, tracks, difference, champion, champion_spread, others)


def _seasonless(times_s: Floats, track: Track) -> Track:
    """The track less what the same time of earlier days leads one to expect, where a day is known and enough is left."""
    if len(times_s) < LONG or times_s[-1] - times_s[0] < 1.25 * conformal.DAY_S:
        return track
    expected = conformal.expected(times_s, track.value)
    return Track(track.value - expected, 2 * track.variance)


def _long(arms: Arms) -> Arms:
    """With the novelty of each metric, where the series is long enough to be its own yardstick."""
    if arms.points < LONG:
        return arms
    found = {
        metric: conformal.novelty(arms.times_s, track.value, arms.newest)
        for metric, track in arms.difference.items()
    }
    return replace(arms, novelty=found)


def _values(series: Series, length: int) -> dict[str, Floats]:
    start = len(series.starts) - length
    return {name: np.asarray(series[name][start:], dtype=np.float64) for name in _SUMS}


def _strength(name: str, evidence: Evidence, arms: Arms, cut: Sensitivity) -> float | None:
    """0.8 at the cut-off, at most 1; None when the detector can't measure anything."""
    match name:
        case "statistical_outliers":
            p_values = list(_outliers(arms, cut))
        case "pattern_changes":
            p_values = list(_level_shifts(arms))
        case "correlation_breakdown":
            p_values = list(_breakdowns(arms))
        case _:
            return _distribution_strength(evidence, cut)
    known = [value for value in p_values if value is not None and not math.isnan(value)]
    return _graded(min(known) * len(known), cut.alpha) if known else None


def _graded(p_value: float, alpha: float) -> float:
    """Strength of a p-value: 0.8 at alpha, in proportion to its decimal places, 0..1."""
    if p_value <= 0:
        return 1.0
    return min(1.0, max(0.0, _AT_CUT_OFF * math.log10(p_value) / math.log10(alpha)))


def _outliers(arms: Arms, cut: Sensitivity) -> Iterator[float | None]:
    """Each of the newest points against the earlier ones, metric by metric."""
    newest = arms.newest
    for metric, track in arms.difference.items():
        found = outlier(track[:-newest], track[-newest:], fence=cut.fence, one_sided=metric in ONE_SIDED)
        yield 1.0 if found is not None and arms.nothing_new(metric) else found


def _level_shifts(arms: Arms) -> Iterator[float | None]:
    """The newest points, summed up, against the earlier ones, metric by metric."""
    newest = arms.newest
    early, late = _summed(arms, slice(None, -newest)), _summed(arms, slice(-newest, None))
    for metric, track in arms.difference.items():
        one_sided = metric in ONE_SIDED
        found = level_shift(track[:-newest], early[metric], late[metric], one_sided=one_sided)
        yield 1.0 if found is not None and arms.nothing_new(metric) else found


def _summed(arms: Arms, points: slice) -> dict[str, Track]:
    """A stretch of points summed up to one; of a track that something was taken off, its precision-weighted mean."""
    if arms.champion is None and arms.points >= LONG:
        return {name: pooled(track[points]) for name, track in arms.difference.items()}
    own = measure(
        {name: values[points].sum(keepdims=True) for name, values in arms.sums.items()}, arms.spread
    )
    if arms.champion_sums is None or arms.champion_spread is None:
        return own
    sums = {name: values[points].sum(keepdims=True) for name, values in arms.champion_sums.items()}
    champion = measure(sums, arms.champion_spread)
    return {name: own[name] - champion[name] for name in METRICS}


def _breakdowns(arms: Arms) -> Iterator[float | None]:
    """Metrics that belonged together: each with all the others in a long series, else pair by pair."""
    columns = [track.value for tracks in (arms.own, arms.champion or {}) for track in tracks.values()]
    rows: Floats = np.stack(columns, axis=1)
    rows = rows[np.isfinite(rows).all(axis=1)]
    found = breakdown(rows[: -arms.newest], rows[-arms.newest :]) if arms.points >= LONG else None
    if found is not None:
        yield from found.tolist()
        return
    for one, other in _pairs(arms):
        yield correlation_breakdown(one, other)


def _pairs(arms: Arms) -> Iterator[tuple[Floats, Floats]]:
    """Metrics that may move together: the arms with each other, and within the challenger."""
    if arms.champion is not None:
        for metric in ("latency", "confidence", "volume"):
            yield arms.own[metric].value, arms.champion[metric].value
    yield arms.own["latency"].value, arms.own["volume"].value
    yield arms.own["latency"].value, arms.own["confidence"].value


def _distribution_strength(evidence: Evidence, cut: Sensitivity) -> float | None:
    """The newest latencies and confidences against the rest of the step, beyond what the champion's did."""
    found = []
    for histogram in ("latency_hist", "confidence_hist"):
        own = _newest(evidence.challenger.step, evidence.challenger.latency, histogram)
        if own is None:
            continue
        champion = _newest(evidence.champion.step, evidence.champion.latency, histogram)
        excess = own[0] - (champion[0] if champion else 0.0)
        found.append(min(_graded(2 * own[1], cut.alpha), max(0.0, _AT_CUT_OFF * excess / cut.effect), 1.0))
    return max(found) if found else None


def _newest(step: Sums, newest: Sums, histogram: str) -> tuple[float, float] | None:
    return newest_shift(getattr(step, histogram), getattr(newest, histogram), _HISTOGRAM_MINIMUM)

"""Would the champion itself pass the profile it sets for its challengers? (acceptance C26)"""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from headgate.backtest.arena import Arena, moment
from headgate.backtest.history import read_history
from headgate.backtest.trial import Trial, prepare
from headgate.core import engine
from headgate.core.checks.table import judge_all
from headgate.core.lint import Finding
from headgate.core.rollout import Rollout
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Check, Verdict

MAX_WINDOWS = 2_000
NOISE = 0.01
"""Share of the windows that may be in breach by chance under `guarded`, which confirms each against the champion."""


@dataclass(frozen=True, slots=True)
class _Limit:
    """How a limit is told: the policy's field, the measured number, and the words for being beyond it."""

    field: str
    number: str
    beyond: str


_LIMITS = {
    (Check.ACCURACY, "below_threshold"): _Limit("accuracy_threshold", "accuracy", "below"),
    (Check.ACCURACY, "below_threshold_sustained"): _Limit("accuracy_threshold", "accuracy", "below"),
    (Check.ACCURACY, "below_scaled_baseline"): _Limit("accuracy_threshold", "accuracy", "below its share of"),
    (Check.LATENCY, "mean_over_limit"): _Limit("latency_threshold_ms", "mean_ms", "over"),
    (Check.LATENCY, "mean_over_limit_sustained"): _Limit("latency_threshold_ms", "mean_ms", "over"),
    (Check.LATENCY, "p95_over_limit"): _Limit("latency_p95_threshold_ms", "p95_ms", "over"),
    (Check.ERROR_RATE, "total_over_limit"): _Limit("error_rate_threshold", "error_rate", "over"),
    (Check.ERROR_RATE, "total_over_limit_sustained"): _Limit("error_rate_threshold", "error_rate", "over"),
    (Check.CACHE, "hit_rate_below_limit_sustained"): _Limit("cache_hit_threshold", "hit_rate", "below"),
    (Check.CACHE, "miss_rate_over_limit"): _Limit("cache_miss_threshold", "miss_rate", "over"),
    (Check.CACHE, "eviction_rate_over_limit"): _Limit(
        "cache_eviction_rate_threshold", "cache_eviction_rate", "over"
    ),
    (Check.THROUGHPUT, "rps_below_limit_sustained"): _Limit(
        "throughput_threshold_rps", "endpoint_rps", "below"
    ),
}


def lint_history(folder: Path, spec: RolloutSpec, champion: str | None) -> tuple[Finding, ...]:
    """What the champion of a logged history breaks itself; see `champion_findings`.

    Raises:
        HistoryError: the history can't be read, or which version is the champion can't be told.
    """
    return champion_findings(prepare(read_history(folder, spec), champion, None, against_itself=True), spec)


def champion_findings(trial: Trial, spec: RolloutSpec) -> tuple[Finding, ...]:
    """What the champion's own history breaks, as findings of the lint; empty when it would pass.

    The champion stands on both sides, with every request of the history, and the literal checks judge window by window.
    A limit is refused when more windows than `NOISE` are beyond it; under `decision: literal` one is enough, since
    one breach takes a challenger back that is as good as this champion.

    Args:
        trial: the champion against itself.
        spec: whose limits they are.
    """
    judged = _windows(trial, spec)
    broken: Counter[tuple[str, str]] = Counter()
    measured: dict[str, int] = Counter()
    for verdicts in judged:
        for name, verdict in verdicts.items():
            measured[name] += (
                verdict.severity > 0 or verdict.outcome.lets_traffic_forward or verdict.outcome.triggered
            )
            # Where the champion is over a latency limit too, the check only warns of load: then the limit is none.
            if verdict.outcome.triggered or name == Check.LATENCY:
                broken.update((name, indicator) for indicator in _first_of_each(verdict))
    found = []
    allowed = NOISE if spec.decision == "guarded" else 0.0
    for (name, indicator), times in broken.items():
        share = times / max(1, measured[name])
        if share > allowed:
            found.append(_finding(name, indicator, share, judged, spec))
    return tuple(found)


def _first_of_each(verdict: Verdict) -> list[str]:
    """The indicators, one for each limit."""
    fields = dict[str, str]()
    for indicator in verdict.indicators:
        limit = _LIMITS.get((Check(verdict.check), indicator))
        fields.setdefault(limit.field if limit else indicator, indicator)
    return list(fields.values())


def _windows(trial: Trial, spec: RolloutSpec) -> list[dict[str, Verdict]]:
    """Verdicts window after window: windows of the spec's longest, or longer, at most `MAX_WINDOWS`."""
    policies = spec.policies
    longest_s = 60.0 * max(
        policies.accuracy.accuracy_window_minutes,
        policies.error_rate.error_window_minutes,
        policies.latency.latency_window_seconds / 60,
    )
    width_s = max(longest_s, (trial.end_s - trial.begin_s) / MAX_WINDOWS)
    # As a split log, so that both sides count every request; a mirrored one would leave out the champion's failures.
    arena = Arena(replace(trial, paired=False), [(0, trial.challenger.rows)], None)
    rollout = _begun(trial, spec)
    arena.serve(None, arena.closed(trial.begin_s))
    # Labels come late: those of a window are waited for, as the step's sums wait for them.
    arena.serve(rollout, len(trial.starts))
    arena.label(float("inf"))
    found, at = [], trial.begin_s + width_s
    while at <= trial.end_s + width_s:
        arena.done = arena.closed(at)
        since = moment(at - width_s)
        standing = replace(rollout, effective_since=since, step_since=since)
        found.append(judge_all(arena.evidence(standing, moment(at)), policies))
        at += width_s
    return found


def _begun(trial: Trial, spec: RolloutSpec) -> Rollout:
    """A rollout of the champion against itself."""
    return engine.start(
        spec,
        id=f"{spec.model}-lint",
        challenger=trial.challenger_version,
        champion=trial.champion_version,
        actor="lint",
        now=moment(trial.begin_s),
    ).rollout


def _finding(
    name: str, indicator: str, share: float, judged: list[dict[str, Verdict]], spec: RolloutSpec
) -> Finding:
    limit = _LIMITS.get((Check(name), indicator))
    windows = f"in {100 * share:.0f} % of windows" if share >= 0.01 else f"in {100 * share:.1g} % of windows"
    place = f"overrides.{name}"
    if limit is None:
        problem = f"{name}: the champion itself breaks it ({indicator}) {windows}"
        return place, problem, "Loosen the limit, or look at the champion first"
    values = [_number(one[name], limit.number) for one in judged if name in one]
    known = [value for value in values if value is not None]
    own = sum(known) / len(known) if known else float("nan")
    value = getattr(getattr(spec.policies, name), limit.field)
    problem = f"{limit.field} {_plain(value)}: the champion itself is {limit.beyond} it {windows} (its {_words(limit.number)} {_plain(own)})"
    fix = "Set it beyond what the champion shows, or write null for no absolute limit"
    if limit.field in ("accuracy_threshold", "error_rate_threshold"):
        fix = f"Set it beyond {_plain(own)}, with room for noise, or look at the champion first"
    return f"{place}.{limit.field}", problem, fix


def _number(verdict: Verdict, name: str) -> float | None:
    return verdict.numbers.get(name)


def _plain(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:g}" if value < 10 else f"{value:,.0f}"


def _words(name: str) -> str:
    return name.replace("_ms", " in ms").replace("_", " ")

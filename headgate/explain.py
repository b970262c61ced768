"""Why the verdicts of a rollout are what they are, as plain JSON: numbers as they are stored, and sentences.

What can't be known is None, never a default; what can't be shown is said in `missing`.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from headgate.core.guard.budget import COSTLY, extra_bad
from headgate.core.guard.budgets import sweep_alpha
from headgate.core.guard.decide import combined
from headgate.core.guard.verdicts import SUSPICION, is_suspicious
from headgate.core.policies import Policies
from headgate.core.risk import WEIGHTS
from headgate.core.rollout import Phase, Rollout
from headgate.core.verdict import Check, Outcome, Standing, Verdict
from headgate.core.wording import about, duration, evidence, one_in, percent, points

QUANTITIES: Mapping[str, str] = {
    Check.ACCURACY: "wrong answers",
    Check.LATENCY: "slower than the champion's usual P95",
    Check.CONFIDENCE_DRIFT: "distance of confidences",
    Check.ERROR_RATE: "failed requests",
    Check.CACHE: "cache misses",
    Check.THROUGHPUT: "unserved requests",
    Check.ANOMALY: "answers far outside",
}
SLOW_SHADOW_MS = 50.0
"""P95 above which a model in shadow is told to be slow (S1:493-500)."""
_LOG_LARGEST = 690.0
_STEPS_DOWN = (Check.ACCURACY, Check.LATENCY)


def explain_checks(verdicts: Mapping[str, Verdict], rollout: Rollout) -> list[dict[str, Any]]:
    """Every check, the one nearest to a rollback first."""
    rows = [explain_check(verdict, rollout) for verdict in verdicts.values()]
    order = list(WEIGHTS)

    def key(row: Mapping[str, Any]) -> tuple[float, float, int]:
        name = row["check"]
        near = row["standing"]["against"]["share"] if row["standing"] else 0.0
        return -row["severity"], -near, order.index(name) if name in order else len(order)

    return sorted(rows, key=key)


def explain_check(verdict: Verdict, rollout: Rollout) -> dict[str, Any]:
    """One check: what it says, what the other mode says, where its evidence stands, what would change it."""
    standing = standing_of(verdict)
    return {
        "check": verdict.check,
        "quantity": QUANTITIES.get(verdict.check, ""),
        "outcome": verdict.outcome.value,
        "severity": verdict.severity,
        "reason": verdict.reason,
        "samples": verdict.samples,
        "window_s": verdict.window_s,
        "literal": _beside(verdict.literal),
        "guarded": _beside(verdict.guarded),
        "standing": None
        if standing is None
        else explain_standing(standing, claim_of(verdict.check, rollout.spec.policies, standing)),
        "would_change": would_change(verdict, rollout),
        "numbers": dict(verdict.numbers),
        "indicators": list(verdict.indicators),
        "actions": list(verdict.actions),
    }


def standing_of(verdict: Verdict) -> Standing | None:
    """The sequential evidence of a verdict, whichever mode decides."""
    if verdict.standing is not None or verdict.guarded is None:
        return verdict.standing
    return verdict.guarded.standing


def claim_of(check: str, policies: Policies, standing: Standing) -> str:
    """What promotion's evidence of a check is about."""
    if check == Check.LATENCY:
        return f"not over {1 + policies.latency.margin:g} times as slow"
    if standing.margin is None:
        return "not worse"
    if check == Check.CONFIDENCE_DRIFT:
        return f"confidences no farther apart than {standing.margin:g}"
    return f"not worse by over {points(standing.margin)}"


def explain_standing(standing: Standing, claim: str) -> dict[str, Any]:
    """A standing's numbers, and what they mean.

    `significant` says whether the arms differ at all at the rollout's level, `uncertain` that the interval is wider than
    the margin, so that nothing can be concluded yet, `progress` how much of the samples for promotion's evidence is there.
    """
    numbers = {item.name: _plain(getattr(standing, item.name)) for item in fields(standing)}
    low, high, margin = standing.low, standing.high, standing.margin
    known = low is not None and high is not None
    to_go = standing.to_go
    progress = None
    if standing.log_ni_needed is not None and to_go is not None and standing.n_challenger + to_go > 0:
        progress = standing.n_challenger / (standing.n_challenger + to_go)
    return numbers | {
        "parts": {name: _plain(value) for name, value in standing.parts.items()},
        "against": {
            "evidence": _plain(math.exp(min(standing.log_e, _LOG_LARGEST))),
            "needed": _plain(math.exp(min(standing.log_e_needed, _LOG_LARGEST))),
            "share": _share(standing.log_e, standing.log_e_needed),
            "one_in": one_in(standing.log_e),
            "confirmed": standing.confirmed,
        },
        "for": None
        if standing.log_ni_needed is None
        else {
            "claim": claim,
            "share": _share(standing.log_ni or 0.0, standing.log_ni_needed),
            "evidence": _plain(math.exp(min(standing.log_ni or 0.0, _LOG_LARGEST))),
            "needed": _plain(math.exp(standing.log_ni_needed)),
            "enough": standing.shown_not_worse,
        },
        "significant": (low > 0 or high < 0) if known and low is not None and high is not None else None,
        "uncertain": not (high - low <= margin)
        if known and margin is not None and low is not None and high is not None
        else None,
        "progress": _plain(progress),
    }


def would_change(verdict: Verdict, rollout: Rollout) -> str:
    """What would make this check say something else."""
    standing = standing_of(verdict)
    literal_decides = rollout.spec.decision == "literal"
    if standing is None or literal_decides:
        told = "changes when the measured value crosses the documents' limit"
        if verdict.outcome is Outcome.INSUFFICIENT_DATA:
            told = "waits for more samples"
        if literal_decides and verdict.guarded is not None and verdict.guarded.outcome is not verdict.outcome:
            told += f"; guarded would say {verdict.guarded.outcome.value}"
        return told
    parts = (_against(verdict, standing), _promotion(standing, verdict.check), _slow_shadow(verdict, rollout))
    return "; ".join(part for part in parts if part)


def _slow_shadow(verdict: Verdict, rollout: Rollout) -> str:
    p95_ms = verdict.numbers.get("p95_ms")
    if (
        verdict.check != Check.LATENCY
        or rollout.phase is not Phase.SHADOWING
        or not isinstance(p95_ms, float)
    ):
        return ""
    if not p95_ms > SLOW_SHADOW_MS:
        return ""
    way = "answer requests together (version tag headgate.batch_rows, on a GPU above all) or take a smaller model"
    return f"its P95 of {p95_ms:.0f} ms in shadow is over {SLOW_SHADOW_MS:.0f} ms: {way}"


def _against(verdict: Verdict, standing: Standing) -> str:
    if math.isinf(standing.log_e_needed):
        return ""
    if not standing.confirmed:
        told = f"rolls back at evidence {evidence(standing.log_e_needed)}, now {evidence(standing.log_e)}"
        if verdict.check in _STEPS_DOWN and not is_suspicious(standing):
            told += f"; less traffic at {evidence(SUSPICION * standing.log_e_needed)} if a limit is broken"
        return told
    if verdict.outcome.triggered:
        return "harm is confirmed: it rolls back"
    limit = f" of {points(standing.margin)}" if standing.margin is not None else ""
    return f"worse, that is confirmed; rolls back when the difference is beyond the margin{limit}"


def _promotion(standing: Standing, check: str) -> str:
    if standing.log_ni_needed is None:
        return ""
    if standing.shown_not_worse:
        return "promotion's evidence is there"
    what = "labelled requests" if check == Check.ACCURACY else "requests"
    if standing.to_go is None or not math.isfinite(standing.to_go):
        return "promotion: can't be told when, at the pace so far"
    when = f", {duration(standing.eta_s)}" if standing.eta_s is not None else ""
    return f"promotion: about {about(standing.to_go)} more {what}{when}"


def together(verdicts: Mapping[str, Verdict], rollout: Rollout) -> dict[str, Any] | None:
    """The evidence of all checks together, against what the sweeps may spend; None without any standing.

    Only checks whose challenger is worse by more than the margin, or breaks a documents' limit, add to it.
    """
    if not any(standing_of(one) for one in verdicts.values()):
        return None
    spec = rollout.spec.evidence
    log_e, parts = combined(verdicts)
    needed = -math.log(sweep_alpha(spec))
    return {
        "log_e": _plain(log_e),
        "log_e_needed": needed,
        "evidence": _plain(math.exp(min(log_e, _LOG_LARGEST))),
        "needed": math.exp(needed),
        "share": _share(log_e, needed),
        "checks": list(parts),
        "alpha": spec.alpha,
        "event_share": spec.event_share,
        "confirmed": log_e >= needed,
    }


def harm_spent(verdicts: Mapping[str, Verdict], rollout: Rollout) -> dict[str, Any]:
    """Bad answers more than the champion would have given so far, what of it is beyond chance, and what is allowed."""
    budget = rollout.spec.harm_budget
    by_check = {
        name: _plain(found.extra_bad)
        for name in COSTLY
        if name in verdicts and (found := standing_of(verdicts[name])) is not None
    }
    return {
        "extra_bad": math.fsum(value or 0.0 for value in by_check.values()) if by_check else None,
        "beyond_chance": _plain(extra_bad(verdicts)) if by_check else None,
        "by_check": by_check,
        "allowed": None if budget is None else budget.extra_bad,
    }


def summary_sentence(row: Mapping[str, Any]) -> str:
    """The arms' rates in one sentence, of a row of `explain_checks`."""
    standing = row["standing"]
    if standing is None:
        return ""
    if standing["challenger"] is None:
        n = f"{standing['n_challenger']:,} beside {standing['n_champion']:,}"
        return f"{row['quantity']} of {n}" if standing["n_challenger"] else ""
    champion = standing["champion"]
    beside = (
        f", champion {percent(champion)} of {standing['n_champion']:,}"
        if champion is not None
        else ", no champion beside it"
    )
    return f"{row['quantity']} {percent(standing['challenger'])} of {standing['n_challenger']:,}{beside}"


def missing(rollout: Rollout, verdicts: Mapping[str, Verdict]) -> list[str]:
    """What this page can't show, and why."""
    if not verdicts:
        return ["no check has judged yet"]
    told = []
    if not any(standing_of(one) for one in verdicts.values()):
        why = (
            "the rollout decides literally and was not weighed"
            if rollout.spec.decision == "literal"
            else "nothing was counted of both arms"
        )
        told.append(f"no sequential evidence: {why}")
    if not rollout.phase.live:
        told.append("it has ended: the verdicts are the last that were judged")
    return told


def _beside(other: Verdict | None) -> dict[str, Any] | None:
    if other is None:
        return None
    return {"outcome": other.outcome.value, "severity": other.severity, "reason": other.reason}


def _share(log: float, needed: float) -> float:
    """Part of the way from no evidence to enough, 0-1."""
    return min(1.0, max(0.0, log / needed)) if math.isfinite(needed) and needed > 0 else 0.0


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value

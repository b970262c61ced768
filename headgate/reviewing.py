"""The risk review of a period: what ended how, false alarms, how fast traffic was cut, limits to change (S0:580-583)."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from headgate.adjusting import limit_suggestions
from headgate.core.rollout import Phase, Rollout
from headgate.core.verdict import Verdict
from headgate.explain import standing_of
from headgate.learning import predicted_risk, root_cause


class Record(Protocol):
    """One record of the audit (`store.history`)."""

    @property
    def at(self) -> datetime:
        """When."""
        ...

    @property
    def kind(self) -> str:
        """What kind of record."""
        ...

    @property
    def from_phase(self) -> str | None:
        """The phase before, of a transition."""
        ...

    @property
    def to_phase(self) -> str | None:
        """The phase after, of a transition."""
        ...

    @property
    def body(self) -> dict[str, Any]:
        """Ruling, verdicts, state; or the evidence."""
        ...


@dataclass(slots=True)
class Reviewed:
    """One rollout with its records of the period, and the verdicts that were stored with it, newest last."""

    rollout: Rollout
    records: Sequence[Record]
    verdicts: Sequence[Mapping[str, Verdict]] = field(default_factory=tuple)


def review(
    reviewed: Sequence[Reviewed], *, since: datetime, until: datetime, evidence_kind: str
) -> dict[str, Any]:
    """The review, as plain JSON.

    Args:
        reviewed: every rollout that something happened to in the period.
        since, until: the period. evidence_kind: the kind of record that holds a rollback's evidence.
    """
    backs = [_rollback(one, evidence_kind) for one in reviewed if _went_back(one.rollout, since, until)]
    rollouts = [one.rollout for one in reviewed]
    ended = [one for one in rollouts if one.finished_at is not None and since <= one.finished_at < until]
    return {
        "since": since.isoformat(),
        "until": until.isoformat(),
        "rollouts": len(reviewed),
        "live": sum(one.phase.live for one in rollouts),
        "ended": _counted(one.outcome or one.phase.value for one in ended),
        "rollbacks": backs,
        "rollbacks_by_cause": _counted(_cause(one) for one in backs),
        "false_positives": [one["rollout"] for one in backs if one["false_positive"]],
        "literal_only": _literal_only(reviewed),
        "holds": _holds(reviewed, since, until),
        "time_to_cut_s": _spread([one["time_to_cut_s"] for one in backs]),
        "time_to_recover_s": _spread([one["time_to_recover_s"] for one in backs]),
        "threshold_suggestions": _suggestions(reviewed),
        "risk": {model: predicted_risk(known) for model, known in _by_model(rollouts).items()},
    }


def _went_back(rollout: Rollout, since: datetime, until: datetime) -> bool:
    return rollout.recovery is not None and since <= rollout.recovery.started_at < until


def _rollback(one: Reviewed, evidence_kind: str) -> dict[str, Any]:
    """One rollback: why, whether the evidence bears it out, whom it met, how fast it was."""
    rollout, recovery = one.rollout, one.rollout.recovery
    decided = next((r for r in reversed(one.records) if r.to_phase == Phase.ROLLING_BACK), None)
    kept = next((r.body for r in reversed(one.records) if r.kind == evidence_kind), {})
    stored = list((decided.body.get("verdicts") or {}).values()) if decided is not None else []
    cause = root_cause(rollout, stored, kept.get("breakdown") or [])
    served: Mapping[str, Any] = kept.get("performance_impact") or {}
    seconds = recovery.seconds if recovery is not None else {}
    weighed_in = cause["confirmed"] is False and cause["triggered_by"] != "event_gate"
    return {
        "rollout": rollout.id,
        "model": rollout.model,
        "at": recovery.started_at.isoformat() if recovery is not None else None,
        "triggered_by": cause["triggered_by"],
        "check": cause["check"],
        "cause": cause["sentence"],
        "confirmed": cause["confirmed"],
        "false_positive": weighed_in and not cause["by_person"] and not _together(decided),
        "requests": served.get("requests_served_by_challenger"),
        "seconds_to_zero": served.get("seconds_to_zero"),
        "time_to_cut_s": seconds.get("1"),
        "time_to_recover_s": sum(seconds.values()) if "3" in seconds else None,
        "recovery": recovery.status if recovery is not None else None,
    }


def _together(decided: Record | None) -> bool:
    """True when the evidence of all checks together decided, which no single check need confirm."""
    ruling = (decided.body.get("ruling") or {}) if decided is not None else {}
    return ruling.get("triggered_by") == "automatic_combined_evidence"


def _cause(back: Mapping[str, Any]) -> str:
    return (
        "a person"
        if str(back["triggered_by"]).startswith("verb:")
        else str(back["check"] or back["triggered_by"])
    )


def _literal_only(reviewed: Sequence[Reviewed]) -> dict[str, dict[str, int]]:
    """Check -> in how many rollouts the documents' rule fired, and in how many of them harm was never confirmed."""
    found: dict[str, dict[str, int]] = {}
    for one in reviewed:
        fired, confirmed = set[str](), set[str]()
        for verdicts in one.verdicts:
            for name, verdict in verdicts.items():
                literal = verdict.literal or verdict
                standing = standing_of(verdict)
                if literal.outcome.triggered and standing is not None:
                    fired.add(name)
                if standing is not None and standing.confirmed:
                    confirmed.add(name)
        for name in fired:
            counts = found.setdefault(name, {"fired": 0, "not_confirmed": 0})
            counts["fired"] += 1
            counts["not_confirmed"] += name not in confirmed
    return dict(sorted(found.items()))


def _holds(reviewed: Sequence[Reviewed], since: datetime, until: datetime) -> dict[str, dict[str, float]]:
    """Reason of a pause -> how often, and for how many seconds in all, rollouts stood still in the period."""
    found: dict[str, dict[str, float]] = {}
    for one in reviewed:
        moves = [record for record in one.records if record.to_phase is not None]
        for index, record in enumerate(moves):
            reason = (record.body.get("state") or {}).get("pause_reason")
            if record.to_phase != Phase.PAUSED or reason is None:
                continue
            end = moves[index + 1].at if index + 1 < len(moves) else until
            lasted = (min(end, until) - max(record.at, since)).total_seconds()
            if lasted > 0:
                held = found.setdefault(str(reason), {"times": 0, "seconds": 0.0})
                before = moves[index - 1] if index else None
                held["times"] += before is None or before.to_phase != Phase.PAUSED
                held["seconds"] += lasted
    return dict(sorted(found.items()))


def _suggestions(reviewed: Sequence[Reviewed]) -> list[dict[str, Any]]:
    """Limits of each model's newest spec that its champions' own rates speak against."""
    found = list[dict[str, Any]]()
    groups: dict[str, list[Reviewed]] = {}
    for one in reviewed:
        groups.setdefault(one.rollout.model, []).append(one)
    for model, known in sorted(groups.items()):
        rates: dict[str, list[float]] = {}
        for verdicts in (verdicts for one in known for verdicts in one.verdicts):
            for name, verdict in verdicts.items():
                standing = standing_of(verdict)
                if standing is not None and standing.champion is not None:
                    rates.setdefault(name, []).append(standing.champion)
        spec = max((one.rollout for one in known), key=lambda one: one.created_at).spec
        for name, champions in sorted(rates.items()):
            found += [{"model": model} | change for change in limit_suggestions(name, spec, champions)]
    return found


def _by_model(rollouts: Iterable[Rollout]) -> dict[str, list[Rollout]]:
    found: dict[str, list[Rollout]] = {}
    for one in rollouts:
        found.setdefault(one.model, []).append(one)
    return dict(sorted(found.items()))


def _counted(words: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _spread(values: Iterable[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    return {"median": statistics.median(known), "largest": max(known), "count": len(known)} if known else None

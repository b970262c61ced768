"""What the demo really did, read back from PostgreSQL: rollouts, audit, approvals, the prediction log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from headgate.core.rollout import Phase, Rollout
from headgate.evidence import seconds_to_zero
from headgate.store.audit import AuditRecord
from headgate.store.database import connect
from headgate.store.outbox import ApprovalRecord

if TYPE_CHECKING:
    from headgate.services import Services

Outcome = Literal["promoted", "rejected_in_shadow", "rolled_back", "unfinished"]
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_WORST_FIRST = ("critical", "fail", "error", "insufficient_data", "warn", "pass")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was decided, for the picture. `kind`: start, step, approval, end or bad."""

    at: datetime
    kind: Literal["start", "step", "approval", "end", "bad"]
    label: str
    reason: str
    weight_percent: float


@dataclass(frozen=True, slots=True)
class Way:
    """One rollout from start to end.

    Attributes:
        weights: the challenger's shares in percent, in the order in which they were given.
        approval: `by`, `at`, `via`, or None when nobody was asked.
        served: requests routed to the challenger. failed: those of them that it could not answer.
        seconds_to_zero: from its first failed request to the last that was routed to it; None when none failed.
        decided_by: the check whose verdict decided, with its outcome. reason: its sentence.
        checks: check -> outcome at the decision.
    """

    rollout_id: str
    version: str
    outcome: Outcome
    weights: tuple[float, ...]
    approval: Mapping[str, str | None] | None
    served: int
    failed: int
    seconds_to_zero: float | None
    recovery: Mapping[str, Any] | None
    decided_by: str
    reason: str
    checks: Mapping[str, str]
    started_at: datetime
    ended_at: datetime | None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests per second of time, in POSIX seconds from `start` on.

    Attributes:
        answered: version -> requests that it answered, one count a second.
        failed: requests that the challenger failed and the champion answered.
        mirrored: version -> requests mirrored to it in shadow.
    """

    start: int = 0
    answered: Mapping[str, Sequence[int]] = field(default_factory=dict)
    failed: Sequence[int] = ()
    mirrored: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def seconds(self) -> int:
        """How many seconds it covers."""
        return len(self.failed)


def read_ways(services: "Services", model: str) -> list[Way]:
    """Every rollout of a model, oldest first."""
    store = services.store
    ways = []
    for rollout in reversed(store.rollouts(model=model)):
        history = store.history(rollout.id)
        served = store.served_by(rollout)
        judged, decision = _decision(history)
        ways.append(
            Way(
                rollout_id=rollout.id,
                version=rollout.challenger,
                outcome=_outcome(rollout),
                weights=_weights(history),
                approval=_approval(store.approvals(rollout.id)),
                served=served.requests,
                failed=served.errors,
                seconds_to_zero=seconds_to_zero(served),
                recovery=_recovery(rollout),
                decided_by=_decided_by(judged, decision),
                reason=_reason(judged, decision),
                checks={check: str(verdict["outcome"]) for check, verdict in judged.items()},
                started_at=rollout.created_at,
                ended_at=rollout.finished_at or rollout.promoted_at,
                events=tuple(events_of(history)),
            )
        )
    return ways


def read_traffic(database_url: str, model: str, since: datetime = _EVER) -> Traffic:
    """The prediction log, from a moment on, as counts per second."""
    query = """
        SELECT floor(extract(epoch FROM time))::bigint, arm, version, error IS NOT NULL, count(*)
        FROM predictions WHERE model = %s AND time >= %s GROUP BY 1, 2, 3, 4"""
    with connect(database_url) as connection:
        rows = connection.execute(query, (model, since)).fetchall()
    return count_traffic(
        [(int(second), arm, version, failed, count) for second, arm, version, failed, count in rows]
    )


def count_traffic(rows: Sequence[tuple[int, str, str, bool, int]]) -> Traffic:
    """Counts per second from (second, arm, version, failed, count) rows."""
    if not rows:
        return Traffic()
    start = min(row[0] for row in rows)
    length = max(row[0] for row in rows) - start + 1
    answered: dict[str, list[int]] = {}
    mirrored: dict[str, list[int]] = {}
    failures = [0] * length
    for second, arm, version, failed, count in rows:
        if arm == "shadow":
            mirrored.setdefault(version, [0] * length)[second - start] += count
        elif not failed:
            answered.setdefault(version, [0] * length)[second - start] += count
        elif arm == "challenger":
            failures[second - start] += count
    ordered = {version: answered[version] for version in sorted(answered)}
    return Traffic(start, ordered, failures, mirrored)


def count_logged(database_url: str, model: str) -> int:
    """Requests in the prediction log, mirrored calls and fallbacks not counted twice."""
    query = "SELECT count(DISTINCT request_id) FROM predictions WHERE model = %s AND arm <> 'shadow'"
    with connect(database_url) as connection:
        row = connection.execute(query, (model,)).fetchone()
    return int(row[0]) if row else 0


def _outcome(rollout: Rollout) -> Outcome:
    if rollout.phase is Phase.PROMOTED:
        return "promoted"
    if rollout.phase in (Phase.ROLLED_BACK, Phase.ABORTED):
        return "rolled_back" if rollout.exposed else "rejected_in_shadow"
    return "unfinished"


def _weights(history: Sequence[AuditRecord]) -> tuple[float, ...]:
    given: list[float] = []
    for record in history:
        weight = float(record.body.get("state", {}).get("weight_percent", 0.0))
        if weight > 0 and (not given or given[-1] != weight):
            given.append(weight)
    return tuple(given)


def _approval(records: Sequence[ApprovalRecord]) -> dict[str, str | None] | None:
    for answer in (record.approval for record in records):
        if answer.decision is not None:
            at = answer.at.isoformat(timespec="seconds") if answer.at else None
            return {"by": answer.by, "at": at, "via": answer.via, "decision": answer.decision}
    return None


def _recovery(rollout: Rollout) -> dict[str, Any] | None:
    recovery = rollout.recovery
    if recovery is None:
        return None
    return {
        "status": recovery.status,
        "score": recovery.score,
        "checks": dict(recovery.checks),
        "phase_seconds": {stage: round(seconds, 3) for stage, seconds in recovery.seconds.items()},
    }


def _decision(history: Sequence[AuditRecord]) -> tuple[dict[str, Any], AuditRecord | None]:
    """The verdicts and the record of the move that ended the ramp, one way or the other."""
    ends = (Phase.ROLLING_BACK, Phase.PROMOTING, Phase.ABORTED)
    for record in history:
        if record.to_phase in ends and record.from_phase != record.to_phase:
            return record.body.get("verdicts") or {}, record
    return {}, None


def _worst(judged: Mapping[str, Any]) -> tuple[str, Any] | None:
    known = [(check, verdict) for check, verdict in judged.items() if verdict["outcome"] in _WORST_FIRST]
    return min(
        known,
        key=lambda item: (_WORST_FIRST.index(item[1]["outcome"]), -item[1]["severity"], item[0]),
        default=None,
    )


def _by_the_gateway(decision: AuditRecord | None) -> bool:
    """True when a gateway's event gate cut the challenger off before any check saw it fail."""
    return decision is not None and decision.body["ruling"]["triggered_by"] == "event_gate"


def _decided_by(judged: Mapping[str, Any], decision: AuditRecord | None) -> str:
    if _by_the_gateway(decision):
        return "the gateway's event gate"
    worst = _worst(judged)
    if worst is None:
        return "nobody"
    if worst[1]["outcome"] in ("pass", "warn"):
        return f"all {len(judged)} enabled checks passed"
    return f"{worst[0]}: {worst[1]['outcome']}"


def _reason(judged: Mapping[str, Any], decision: AuditRecord | None) -> str:
    worst = _worst(judged)
    if not _by_the_gateway(decision) and worst is not None and worst[1]["outcome"] in ("critical", "fail"):
        return str(worst[1]["reason"])
    return decision.reason if decision else ""


def events_of(history: Sequence[AuditRecord]) -> list[Event]:
    """What was decided in one rollout, oldest first."""
    events = []
    weight = 0.0
    for record in history:
        state = record.body.get("state")
        if state is None:
            continue
        before, weight = weight, float(state["weight_percent"])
        told = _tell(record, state, before, weight)
        if told is not None:
            events.append(Event(record.at, told[0], told[1], record.reason, weight))
    return events


def _tell(
    record: AuditRecord, state: Mapping[str, Any], before: float, weight: float
) -> tuple[Literal["start", "step", "approval", "end", "bad"], str] | None:
    """Kind and label of a move; None for those that a picture leaves out."""
    entered = record.from_phase != record.to_phase
    approval = state.get("approval") or {}
    if record.kind == "created":
        return "start", "shadow"
    if record.to_phase == Phase.ROLLING_BACK and entered:
        return "bad", "cut off" if before > 0 else "rejected"
    if record.to_phase == Phase.ROLLED_BACK and entered:
        return "end", (state.get("recovery") or {}).get("status") or "ended"
    if record.to_phase == Phase.PROMOTED and entered:
        return "end", "promoted"
    if record.to_phase == Phase.PROMOTING and entered:
        return "end", "champion"
    if weight > before:
        return "step", f"{weight:g} %"
    if weight < before and weight > 0:
        return "bad", f"down to {weight:g} %"
    if approval.get("decision") is not None and record.body["ruling"]["triggered_by"] == "verb:approve":
        return "approval", "approved"
    if (
        approval
        and approval.get("decision") is None
        and state.get("pause_reason") == "awaiting_approval"
        and entered
    ):
        return "approval", "asks"
    return None

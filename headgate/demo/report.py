"""The demo's result: what was promised, what is so, as JSON and as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from headgate.demo.facts import Way

RAMP = (5.0, 10.0, 25.0, 50.0, 100.0)
_COLOURS = {
    "promoted": "green",
    "rejected_in_shadow": "yellow",
    "rolled_back": "red",
    "unfinished": "magenta",
}


@dataclass(frozen=True, slots=True)
class Result:
    """Everything the demo is judged by.

    Attributes:
        ways: the rollouts, oldest first.
        requests, client_errors: as the traffic's own process counted them.
        logged: requests in the prediction log. labels: taken by the gateway.
        records, verified: of the evidence chain.
        champion: the version that MLflow names champion at the end.
        mistakes: client errors in words. seconds: what took how long.
        addresses: name -> where to look further.
    """

    ways: Sequence[Way]
    requests: int
    client_errors: int
    logged: int
    labels: int
    records: int
    verified: bool
    champion: str | None
    mistakes: Sequence[str] = ()
    seconds: Mapping[str, float] | None = None
    addresses: Mapping[str, str] | None = None


def as_json(result: Result) -> dict[str, Any]:
    """The report in the form the issue gives, and more."""
    return {
        "rollouts": [way_as_json(way) for way in result.ways],
        "requests": result.requests,
        "client_errors": result.client_errors,
        "evidence": {"records": result.records, "verified": result.verified},
        "requests_logged": result.logged,
        "labels": result.labels,
        "champion": result.champion,
        "client_error_samples": list(result.mistakes),
        "seconds": {name: round(value, 1) for name, value in (result.seconds or {}).items()},
        "addresses": dict(result.addresses or {}),
        "broken_promises": broken_promises(result),
    }


def way_as_json(way: Way) -> dict[str, Any]:
    """One rollout."""
    return {
        "version": way.version,
        "outcome": way.outcome,
        "weights": [int(weight) if weight.is_integer() else weight for weight in way.weights],
        "approval": way.approval,
        "served_by_challenger": way.served,
        "seconds_to_zero": None if way.seconds_to_zero is None else round(way.seconds_to_zero, 3),
        "recovery": way.recovery,
        "decided_by": way.decided_by,
        "reason": way.reason,
        "failed_on_challenger": way.failed,
        "checks": dict(way.checks),
        "rollout_id": way.rollout_id,
        "started_at": way.started_at.isoformat(timespec="seconds"),
        "ended_at": way.ended_at.isoformat(timespec="seconds") if way.ended_at else None,
    }


def broken_promises(result: Result) -> list[str]:
    """Every fact that is not as the demo promises, one sentence each; empty when all are."""
    wrong = []
    outcomes = [way.outcome for way in result.ways]
    if outcomes != ["promoted", "rejected_in_shadow", "rolled_back"]:
        wrong.append(f"outcomes are {outcomes}, not promoted, rejected_in_shadow, rolled_back")
    by_outcome = {way.outcome: way for way in result.ways}
    if (good := by_outcome.get("promoted")) is not None:
        wrong += _about_promoted(good)
        if result.champion != good.version:
            wrong.append(f"MLflow's champion is {result.champion}, not version {good.version}")
    if (rejected := by_outcome.get("rejected_in_shadow")) is not None and rejected.served != 0:
        wrong.append(
            f"version {rejected.version} was rejected in shadow but served {rejected.served} requests"
        )
    if (back := by_outcome.get("rolled_back")) is not None:
        wrong += _about_rolled_back(back)
    if result.requests == 0:
        wrong.append("no request was sent")
    if result.client_errors != 0:
        wrong.append(f"{result.client_errors} of {result.requests} requests failed for a client")
    if result.logged != result.requests:
        wrong.append(f"{result.requests} requests were sent, {result.logged} are in the prediction log")
    if result.records == 0 or not result.verified:
        wrong.append(f"the evidence chain of {result.records} records does not verify")
    return wrong


def _about_promoted(way: Way) -> list[str]:
    wrong = []
    if way.weights != RAMP:
        wrong.append(f"version {way.version} went through {list(way.weights)}, not {list(RAMP)}")
    approval = way.approval or {}
    if approval.get("decision") != "approve" or not all(approval.get(name) for name in ("by", "at", "via")):
        wrong.append(f"version {way.version} has no approval with who, when and how")
    return wrong


def _about_rolled_back(way: Way) -> list[str]:
    wrong = []
    if way.served == 0:
        wrong.append(f"version {way.version} was rolled back before it served anything")
    if way.failed == 0 or way.seconds_to_zero is None:
        wrong.append(f"version {way.version} was rolled back without a failed request to measure from")
    if (way.recovery or {}).get("status") not in ("successful_recovery", "partial_recovery"):
        wrong.append(f"version {way.version} was rolled back without a recovery status")
    return wrong


def as_table(result: Result) -> Table:
    """The closing table."""
    table = Table(title="What became of the challengers", title_justify="left", expand=False)
    for name in (
        "version",
        "way",
        "share of traffic, %",
        "served",
        "failed for a client",
        "fault to zero",
        "decided by",
    ):
        table.add_column(name, justify="right" if name in ("served", "failed for a client") else "left")
    for way in result.ways:
        table.add_row(
            f"v{way.version}",
            f"[{_COLOURS[way.outcome]}]{way.outcome.replace('_', ' ')}[/]",
            " → ".join(f"{weight:g}" for weight in way.weights) or "shadow only",
            str(way.served),
            str(result.client_errors),
            "-" if way.seconds_to_zero is None else f"{way.seconds_to_zero:.1f} s",
            way.decided_by,
        )
    return table

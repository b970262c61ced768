"""Gathers what `headgate explain` and `headgate review` tell, as plain JSON."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate import reviewing
from headgate.core.guard.audits import audits
from headgate.core.guard.decide import promotion_gap
from headgate.core.guard.segments import judge_segments
from headgate.core.rollout import Rollout
from headgate.driving import answers, driving, error_categories, fairness, to_look_at
from headgate.evidence import ROLLBACK_KIND
from headgate.explain import explain_checks, harm_spent, missing, together
from headgate.learning import earlier, predicted_risk, recall
from headgate.reviewing import Reviewed
from headgate.store.codec import verdicts_from_json
from headgate.versions import read_versions
from headgate.views import summary

if TYPE_CHECKING:
    from headgate.services import Services

MOST_REVIEWED = 1_000
SAMPLES = 100


def explain(services: "Services", rollout_id: str) -> dict[str, Any]:
    """Why the verdicts are what they are: every check, the evidence of all together, harm, slices, answers to look at.

    Raises:
        NotFoundError: no such rollout.
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store, now = services.store, datetime.now(UTC)
    rollout = store.get(rollout_id)
    verdicts = store.verdicts(rollout.id)
    slices = store.breakdown(rollout, now)
    evidence = [record.body for record in store.history(rollout.id) if record.kind == ROLLBACK_KIND]
    learnt = evidence[-1].get("learning") if evidence else None
    if learnt is None and rollout.recovery is not None:
        learnt = recall(services, rollout)
    ruling = rollout.last_ruling
    return summary(rollout) | {
        "decision": rollout.spec.decision,
        "served_percent": rollout.served_percent,
        "ruling": None if ruling is None else {"decision": ruling.decision.value, "reason": ruling.reason},
        "checks": explain_checks(verdicts, rollout),
        "together": together(verdicts, rollout),
        "promotion": promotion_gap(verdicts) if rollout.spec.decision == "guarded" else None,
        "harm": harm_spent(verdicts, rollout),
        "versions": read_versions(services, rollout, now),
        "audits": _audits(services, rollout),
        "excluded": {column: list(values) for column, values in rollout.excluded.items()},
        "segments": driving(slices, rollout),
        "fairness": fairness(slices, rollout),
        "answers": answers(slices, rollout),
        "errors": error_categories(slices, rollout),
        "samples": to_look_at(store.sample_predictions(rollout, SAMPLES)),
        "risk_before": predicted_risk(earlier(services, rollout)),
        "learning": learnt,
        "missing": missing(rollout, verdicts),
    }


def review(services: "Services", days: float) -> dict[str, Any]:
    """The risk review of the last days (LN-03).

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store, until = services.store, datetime.now(UTC)
    since = until - timedelta(days=days)
    seen = list[Reviewed]()
    for rollout in store.rollouts(limit=MOST_REVIEWED):
        if rollout.finished_at is not None and rollout.finished_at < since:
            continue
        records = store.history(rollout.id)
        stored = [verdicts_from_json(one.body["verdicts"]) for one in records if one.body.get("verdicts")]
        seen.append(Reviewed(rollout, records, [*stored, store.verdicts(rollout.id)]))
    return reviewing.review(seen, since=since, until=until, evidence_kind=ROLLBACK_KIND)


def _audits(services: "Services", rollout: Rollout) -> list[dict[str, Any]]:
    """What is wrong with the split, and with which slices, by the newest state of the tests."""
    states = services.store.read_states([rollout.id]).get(rollout.id, {})
    spec, whole = rollout.spec, states.get("")
    found = dict(audits(whole, spec)) if whole is not None else {}
    slices = {name: state for name, state in states.items() if name}
    if slices:
        found |= judge_segments(slices, spec.policies, spec.evidence)
    return [
        {"name": name, "outcome": one.outcome.value, "reason": one.reason, "numbers": dict(one.numbers)}
        for name, one in found.items()
    ]

"""What a person sees of a rollout, as plain JSON: for the CLI, and later the REST API."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headgate.core import engine
from headgate.core.guard.decide import promotion_gap
from headgate.core.policies import Policies
from headgate.core.rollout import Approval, Rollout
from headgate.core.verdict import Verdict
from headgate.errors import ConfigError, HeadgateError
from headgate.explain import claim_of, explain_standing, standing_of
from headgate.versions import read_versions

if TYPE_CHECKING:
    from headgate.services import Services


def summary(rollout: Rollout) -> dict[str, Any]:
    """One line of a list."""
    return {
        "id": rollout.id,
        "tenant": rollout.tenant,
        "model": rollout.model,
        "challenger": rollout.challenger,
        "champion": rollout.champion,
        "phase": rollout.phase.value,
        "pause_reason": rollout.pause_reason.value if rollout.pause_reason else None,
        "step": rollout.step,
        "steps": [stage.set_weight for stage in rollout.spec.ramp],
        "weight_percent": rollout.weight_percent,
        "frozen": rollout.frozen,
        "created_at": rollout.created_at.isoformat(),
        "phase_since": rollout.phase_since.isoformat(),
        "finished_at": _time(rollout.finished_at),
        "reason": rollout.last_ruling.reason if rollout.last_ruling else "",
    }


def describe(services: "Services", rollout_id: str) -> dict[str, Any]:
    """Everything about one rollout: state, verdicts, counts, approval with its page, recovery, legal verbs.

    Raises:
        NotFoundError: no such rollout.
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store = services.store
    rollout = store.get(rollout_id)
    now, verdicts = datetime.now(UTC), store.verdicts(rollout.id)
    ruling, recovery = rollout.last_ruling, rollout.recovery
    requests, outcomes = store.read_counts([rollout], now).get(rollout.id, (0, 0))
    return summary(rollout) | {
        "started_by": rollout.started_by,
        "step_since": _time(rollout.step_since),
        "effective_since": _time(rollout.effective_since),
        "requests": requests,
        "outcomes": outcomes,
        "step_downs": rollout.step_downs,
        "ruling": None
        if ruling is None
        else {
            "decision": ruling.decision.value,
            "confidence": ruling.confidence,
            "reason": ruling.reason,
            "triggered_by": ruling.triggered_by,
            "risk_score": ruling.risk_score,
            "level": ruling.level,
        },
        "verdicts": [_verdict(one, rollout.spec.policies) for one in verdicts.values()],
        "promotion": promotion_gap(verdicts) if rollout.spec.decision == "guarded" else None,
        "versions": read_versions(services, rollout, now),
        "approval": _approval(services, rollout),
        "recovery": None
        if recovery is None
        else {
            "stage": recovery.stage,
            "started_at": recovery.started_at.isoformat(),
            "triggered_by": recovery.triggered_by,
            "reason": recovery.reason,
            "seconds": dict(recovery.seconds),
            "score": recovery.score,
            "status": recovery.status,
            "checks": dict(recovery.checks),
        },
        "effects_pending": bool(store.has_pending([rollout.id])),
        "legal_verbs": [verb.value for verb in engine.legal_verbs(rollout)],
    }


def registry_view(services: "Services", model: str) -> dict[str, Any]:
    """What the registry shows for a model, or why it can't be read."""
    try:
        view = services.registry.view(model)
    except HeadgateError as err:
        return {"error": str(err)}
    return {
        "champion": view.champion,
        "challenger": view.challenger,
        "shadow": view.shadow,
        "weights": dict(view.split.weights) if view.split else {},
        "error": view.split_error,
    }


def _verdict(verdict: Verdict, policies: Policies) -> Mapping[str, Any]:
    standing = standing_of(verdict)
    return {
        "check": verdict.check,
        "outcome": verdict.outcome.value,
        "severity": verdict.severity,
        "samples": verdict.samples,
        "reason": verdict.reason,
        "numbers": dict(verdict.numbers),
        "indicators": list(verdict.indicators),
        "actions": list(verdict.actions),
        "literal": verdict.literal.outcome.value if verdict.literal is not None else None,
        "standing": None
        if standing is None
        else explain_standing(standing, claim_of(verdict.check, policies, standing)),
    }


def _approval(services: "Services", rollout: Rollout) -> dict[str, Any] | None:
    records = services.store.approvals(rollout.id)
    if not records:
        return None
    newest: Approval = records[-1].approval
    return {
        "step": newest.step,
        "requested_at": newest.requested_at.isoformat(),
        "expires_at": newest.expires_at.isoformat(),
        "decision": newest.decision,
        "by": newest.by,
        "at": _time(newest.at),
        "via": newest.via,
        "reason": newest.reason,
        "flow_run_id": records[-1].flow_run_id,
        "page": _page(services, records[-1].flow_run_id),
    }


def _page(services: "Services", run_id: str | None) -> str | None:
    try:
        api_url = services.settings.required("prefect_api_url")
    except ConfigError:
        return None
    return f"{api_url.removesuffix('/api')}/runs/flow-run/{run_id}" if run_id else None


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None

"""What programs are told of performance and retrainings, as plain JSON; the REST API's endpoints answer with it (API-21)."""

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.core.retraining.machine import legal_verbs
from headgate.core.retraining.state import Retraining
from headgate.retraining.asking import start_run
from headgate.retraining.proposing import retrain, safeguards_json

if TYPE_CHECKING:
    from headgate.services import Services

DAYS = 30


def performance_status(
    services: "Services",
    model: str,
    tenant: str = "default",
    *,
    days: int = DAYS,
    today: date | None = None,
) -> dict[str, Any]:
    """A model's daily figures (`GET …/performance`).

    Args:
        services: the connected parts.
        model, tenant: which.
        days: how many days back. today: None = the clock's, of UTC.

    Raises:
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    since = (today or datetime.now(UTC).date()) - timedelta(days=days)
    found = services.store.version_days(model, tenant, since=since)
    return {
        "model": model,
        "tenant": tenant,
        "since": since.isoformat(),
        "days": [one.as_json() for one in found],
        "note": "" if found else "no figures yet: collect_metrics writes them every night",
    }


def manual_retrain(
    services: "Services",
    model: str,
    tenant: str = "default",
    *,
    actor: str,
    reason: str,
    anyway: bool = False,
) -> dict[str, Any]:
    """Ask for a retraining and have Prefect carry it out (`POST …/retrain`).

    Raises:
        NotFoundError: the model has no monitoring spec.
        ConflictError: one is live already, or a safeguard stands in the way.
    """
    one = retrain(services, model, tenant, actor=actor, reason=reason, anyway=anyway)
    run = start_run(services, one)
    note = "" if run else "Prefect is away: it begins once Prefect is back, or with headgate retrain --here"
    return retraining_json(one) | {"flow_run_id": run, "note": note}


def retraining_json(one: Retraining) -> dict[str, Any]:
    """One retraining, everything that is known of it."""
    consent = one.consent
    return {
        "id": one.id,
        "tenant": one.tenant,
        "model": one.model,
        "phase": one.phase.value,
        "live": one.live,
        "trigger": one.trigger.value,
        "reason": one.reason,
        "said": one.said,
        "requested_by": one.requested_by,
        "severity": one.severity,
        "causes": list(one.causes),
        "report_day": one.report_day.isoformat() if one.report_day else None,
        "created_at": one.created_at.isoformat(),
        "phase_since": one.phase_since.isoformat(),
        "ended_at": one.ended_at.isoformat() if one.ended_at else None,
        "champion": one.champion,
        "version": one.version,
        "rollout_id": one.rollout_id,
        "attempts": one.attempts,
        "safeguards": safeguards_json(one.safeguards),
        "training": dict(one.training),
        "validation": [dict(each) for each in one.validation],
        "approval": None
        if consent is None
        else {
            "asked_at": consent.asked_at.isoformat(),
            "expires_at": consent.expires_at.isoformat(),
            "decision": consent.decision,
            "by": consent.by,
            "at": consent.at.isoformat() if consent.at else None,
            "via": consent.via,
            "reason": consent.reason,
            "flow_run_id": consent.flow_run_id,
        },
        "legal_verbs": list(legal_verbs(one)),
    }

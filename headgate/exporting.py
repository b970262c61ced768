"""Evidence to the artifact store, and what is to be told about that store."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headgate.artifacts import key_part
from headgate.errors import ConfigError, StoreUnavailableError
from headgate.store.codec import canonical

if TYPE_CHECKING:
    from headgate.services import Services


def export_evidence(services: "Services", *, limit: int = 10_000, budget_s: float = 60.0) -> int:
    """Copy what the audit got since the last time to the artifact store, in the order of its chain.

    The audit is the outbox: a record is there until its place has it, and a place is asked for each only once, but for
    the last one when a process is killed; it has the same bytes then.

    Args:
        services: the connected parts.
        limit: most records.
        budget_s: seconds after which no further record is begun.

    Returns:
        How many records were copied.

    Raises:
        ArtifactsUnavailableError: the place is away; the rest waits in PostgreSQL.
        StoreUnavailableError: PostgreSQL can't be reached.
    """
    store, artifacts, ends = services.store, services.artifacts, time.monotonic() + budget_s
    place = artifacts.place
    before = newest = store.exported_until(place)
    done = 0
    try:
        for record in store.evidence_after(before, limit):
            if time.monotonic() >= ends:
                break
            artifacts.put_now(evidence_key(record), canonical(record).encode(), "application/json")
            newest, done = record["seq"], done + 1
    finally:
        if newest > before:
            store.save_exported(place, newest)
    return done


def evidence_key(record: Mapping[str, object]) -> str:
    """`evidence/<tenant>/<rollout>/<seq>.json`; `seq` counts over all rollouts, as the chain does."""
    tenant, rollout_id = key_part(str(record["tenant"])), key_part(str(record["rollout_id"]))
    return f"evidence/{tenant}/{rollout_id}/{record['seq']:09d}.json"


def artifacts_status(services: "Services") -> dict[str, Any]:
    """Whether the place answers now, what waits for it, what is archived and exported, as plain JSON.

    With PostgreSQL away, or not known, `archive` and `evidence` are None.
    """
    artifacts = services.artifacts
    problem, waits = artifacts.probe(), artifacts.status()
    told: dict[str, Any] = {
        "place": waits.place,
        "problem": problem,
        "away_since": _text(waits.away_since),
        "failures": waits.failures,
        "waiting": {
            "objects": waits.waiting,
            "bytes": waits.waiting_bytes,
            "oldest": _text(waits.oldest),
            "folder": str(waits.folder),
            "limit_mb": waits.limit_bytes / 1e6,
            "delivered": waits.delivered,
            "dropped": waits.dropped,
            "dropped_bytes": waits.dropped_bytes,
            "refused": waits.refused,
        },
        "archive": None,
        "evidence": None,
        "store_problem": None,
    }
    try:
        return told | _from_store(services, waits.place)
    except (StoreUnavailableError, ConfigError) as err:
        return told | {"store_problem": str(err)}


def _from_store(services: "Services", place: str) -> dict[str, Any]:
    settings, store = services.settings, services.store
    on, totals = settings.artifacts is not None, store.archive_totals()
    ends = datetime.now(UTC).date() - timedelta(days=settings.keep_days)
    archive = {
        "on": on,
        "after_days": settings.archive_after_days,
        "keep_days": settings.keep_days,
        **totals,
        "oldest": totals["oldest"] and totals["oldest"].isoformat(),
        "newest": totals["newest"] and totals["newest"].isoformat(),
        "overdue": [day.isoformat() for day in store.days_held() if day < ends] if on else [],
    }
    evidence = {"exported": store.exported_until(place), "records": store.newest_evidence()}
    return {"archive": archive, "evidence": evidence}


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")

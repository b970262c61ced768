"""Alerts that last: one open row per cause, however often it is seen (acceptance AL-07)."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.store.codec import clean_text, plain, utc_now
from headgate.store.database import Part
from headgate.store.schema import alerts

Key = tuple[str, str]
"""(tenant, model)."""
_OPEN = sa.and_(alerts.c.cause.is_not(None), alerts.c.resolved_at.is_(None))
_NO_ROLLOUT = ""
FLEET: Key = ("", "")
"""Whose alerts are about no model."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One open alert: told first at `at`, seen `times` times, the last time at `last_seen_at`."""

    id: int
    tenant: str
    model: str
    cause: str
    at: datetime
    last_seen_at: datetime
    times: int
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AlertChange:
    """What becomes of one alert.

    Attributes:
        kind: `raise` opens one; `seen` changes its detail; `tell` does and asks for a new acknowledgement; `resolve`
            closes it.
        counted: it was seen once more, and not the same thing looked at again.
    """

    kind: Literal["raise", "seen", "tell", "resolve"]
    cause: str
    detail: Mapping[str, Any]
    counted: bool = True


class Alerts(Part):
    """Reads and moves alerts that have a cause."""

    def open_alerts(self, keys: Collection[Key] | None = None) -> dict[Key, list[Alert]]:
        """Open alerts of these (tenant, model) pairs, the oldest first; None = of all."""
        query = sa.select(alerts).where(_OPEN).order_by(alerts.c.id)
        if keys is not None:
            query = query.where(sa.tuple_(alerts.c.tenant, alerts.c.model).in_(list(keys)))
        with self.db.transaction() as connection:
            return _by_key(connection.execute(query).mappings())

    def settle_alerts(
        self, key: Key, decide: Callable[[Sequence[Alert]], Sequence[AlertChange]]
    ) -> list[AlertChange]:
        """Read the open alerts of one (tenant, model), let `decide` say what becomes of them, and write that at once.

        Returns:
            What was decided; two processes that do it together come one after the other.
        """
        tenant, model = (clean_text(part) for part in key)
        query = sa.select(alerts).where(_OPEN, alerts.c.tenant == tenant, alerts.c.model == model)
        lock = sa.select(
            sa.func.pg_advisory_xact_lock(sa.func.hashtext(f"alerts {tenant}"), sa.func.hashtext(model))
        )
        with self.db.transaction() as connection:
            connection.execute(lock)
            known = _by_key(connection.execute(query.order_by(alerts.c.id)).mappings())
            changes = list(decide(known.get((tenant, model), [])))
            for change in changes:
                connection.execute(_statement(tenant, model, change))
        return changes


def _statement(tenant: str, model: str, change: AlertChange) -> sa.Executable:
    now = utc_now()
    known = {"tenant": tenant, "model": model, "cause": change.cause}
    detail = plain(dict(change.detail))
    if change.kind == "raise":
        row = known | {"rollout_id": _NO_ROLLOUT, "at": now, "last_seen_at": now, "detail": detail}
        return insert(alerts).values(row)
    update = sa.update(alerts).where(_OPEN, *(alerts.c[name] == value for name, value in known.items()))
    if change.kind == "resolve":
        return update.values(resolved_at=now, detail=detail)
    seen: dict[str, Any] = {
        "last_seen_at": now,
        "times": alerts.c.times + int(change.counted),
        "detail": detail,
    }
    if change.kind == "tell":
        return update.values(**seen, acknowledged_at=None, acknowledged_by=None)
    return update.values(**seen)


def _by_key(rows: sa.MappingResult) -> dict[Key, list[Alert]]:
    found: dict[Key, list[Alert]] = defaultdict(list)
    names = tuple(Alert.__dataclass_fields__)
    for row in rows:
        found[row["tenant"], row["model"]].append(Alert(**{name: row[name] for name in names}))
    return dict(found)

"""Retrainings: one row each, one transaction per move, every move in the audit's chain."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from pydantic import TypeAdapter

from headgate.core.retraining.circumstances import Pilot, ReportDay
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.errors import ConflictError, NotFoundError
from headgate.store import audit
from headgate.store.codec import plain
from headgate.store.database import Part, outages_translated
from headgate.store.report_tables import drift_reports
from headgate.store.retraining_tables import retrainings
from headgate.store.rollouts import _slug

_LOCK_SPACE = 7_303
_RETRAINING: TypeAdapter[Retraining] = TypeAdapter(Retraining)
SUBJECT = "retraining:"
"""What the `rollout_id` of an audit record begins with that is about a retraining."""


def retraining_to_json(retraining: Retraining) -> dict[str, Any]:
    """The whole state as JSON."""
    state: dict[str, Any] = plain(_RETRAINING.dump_python(retraining, mode="json"))
    return state


def retraining_from_json(state: Mapping[str, Any]) -> Retraining:
    """Read what `retraining_to_json` wrote, by this version or an older one."""
    return _RETRAINING.validate_python(state)


_PILOTS = """
WITH ended AS (
    SELECT r.tenant, r.model, r.phase = 'taken_back' OR o.phase IN ('rolling_back', 'rolled_back') AS taken,
        CASE WHEN r.phase = 'promoted' AND o.phase = 'rolled_back' THEN o.finished_at ELSE r.ended_at END AS at
    FROM retrainings r LEFT JOIN rollouts o ON o.id = r.rollout_id
    WHERE r.phase IN ('promoted', 'taken_back')
), last AS (
    SELECT tenant, model, max(at) FILTER (WHERE taken) AS taken_at FROM ended GROUP BY tenant, model
)
SELECT e.tenant, e.model, min(l.taken_at) AS taken_back_at,
    min(e.at) FILTER (WHERE e.taken IS NOT TRUE AND (l.taken_at IS NULL OR e.at > l.taken_at)) AS promoted_at
FROM ended e JOIN last l USING (tenant, model) GROUP BY e.tenant, e.model
"""


@dataclass(frozen=True, slots=True)
class JudgedDay:
    """A drift report as far as time goes: which day, when it was judged first, and since when there is drift."""

    tenant: str
    model: str
    day: date
    status: str
    judged_at: datetime
    since: date | None


class _Subject:
    """A retraining, as the subject of an audit record."""

    def __init__(self, retraining: Retraining) -> None:
        self.id, self.tenant, self.model = SUBJECT + retraining.id, retraining.tenant, retraining.model


class Retrainings(Part):
    """The only reader and writer of `retrainings`."""

    def next_retraining_id(self, tenant: str, model: str) -> str:
        """A free id, e.g. `default-digits-r2` for the second retraining of a tenant's model."""
        stem = f"{_slug(tenant)}-{_slug(model)}-r"
        query = sa.select(retrainings.c.id).where(retrainings.c.id.startswith(stem, autoescape=True))
        with self.db.transaction() as connection:
            endings = [known.removeprefix(stem) for known in connection.execute(query).scalars()]
        return f"{stem}{max((int(end) for end in endings if end.isdecimal()), default=0) + 1}"

    def create_retraining(self, retraining: Retraining, *, actor: str) -> Retraining:
        """Write a new one.

        Raises:
            ConflictError: the model has a live one already, of whatever tenant (named), or the id is taken.
        """
        made = replace(retraining, revision=1)
        with self.db.transaction() as connection:
            key = sa.func.hashtext(made.model)
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_SPACE, key)))
            _refuse_second(connection, made)
            connection.execute(sa.insert(retrainings).values(_columns(made)))
            _record(connection, made, None, actor=actor)
        return made

    def move_retraining(self, before: Retraining, after: Retraining, *, actor: str) -> Retraining:
        """Write one move and its audit record: both or neither.

        Raises:
            ConflictError: it is no longer at `before.revision`.
            NotFoundError: no such retraining.
        """
        moved = replace(after, revision=before.revision + 1)
        with self.db.transaction() as connection:
            query = sa.select(retrainings.c.revision).where(retrainings.c.id == before.id).with_for_update()
            revision = connection.execute(query).scalar_one_or_none()
            if revision is None:
                raise NotFoundError("retraining", before.id, "see `headgate retrainings`")
            if revision != before.revision:
                raise ConflictError(
                    f"retraining {before.id}",
                    f"revision {before.revision}",
                    f"revision {revision}",
                    "somebody else moved it; look again",
                )
            connection.execute(
                sa.update(retrainings).where(retrainings.c.id == before.id).values(_columns(moved))
            )
            _record(connection, moved, before, actor=actor)
        return moved

    def retraining(self, retraining_id: str) -> Retraining:
        """One retraining.

        Raises:
            NotFoundError: no such retraining.
        """
        found = self._retrainings(retrainings.c.id == retraining_id, limit=1)
        if not found:
            raise NotFoundError("retraining", retraining_id, "see `headgate retrainings`")
        return found[0]

    def live_retraining(self, model: str, tenant: str | None = None) -> Retraining | None:
        """The model's live retraining, of one tenant or of any; None when there is none."""
        of_tenant = [] if tenant is None else [retrainings.c.tenant == tenant]
        found = self._retrainings(retrainings.c.live, retrainings.c.model == model, *of_tenant, limit=1)
        return found[0] if found else None

    def live_retrainings(self) -> list[Retraining]:
        """Every one that has not ended, the oldest first."""
        return self._retrainings(retrainings.c.live, limit=10_000)[::-1]

    def retrainings(
        self,
        model: str | None = None,
        tenant: str | None = None,
        phase: RetrainingPhase | None = None,
        limit: int = 100,
    ) -> list[Retraining]:
        """Retrainings, newest first, at most `limit`."""
        given = (
            (retrainings.c.model, model),
            (retrainings.c.tenant, tenant),
            (retrainings.c.phase, phase and phase.value),
        )
        wanted = [column == value for column, value in given if value is not None]
        return self._retrainings(*wanted, limit=limit)

    def retraining_of_version(self, model: str, version: str) -> Retraining | None:
        """The retraining that made a version; None when none did."""
        found = self._retrainings(retrainings.c.model == model, retrainings.c.version == version, limit=1)
        return found[0] if found else None

    def retraining_times(self) -> dict[tuple[str, str], tuple[datetime | None, datetime | None]]:
        """(tenant, model) -> when its newest retraining began, and when one last ended."""
        c = retrainings.c
        query = sa.select(c.tenant, c.model, sa.func.max(c.created_at), sa.func.max(c.ended_at))
        with self.db.transaction() as connection:
            rows = connection.execute(query.group_by(c.tenant, c.model))
            return {(tenant, model): (begun, ended) for tenant, model, begun, ended in rows}

    def pilots(self) -> dict[tuple[str, str], Pilot]:
        """(tenant, model) -> the first promotion since one was taken back, and when that was, also by hand and later."""
        with self.db.transaction() as connection:
            rows = connection.execute(sa.text(_PILOTS))
            return {(row.tenant, row.model): Pilot(row.promoted_at, row.taken_back_at) for row in rows}

    def told_days(
        self, first: date, last: date, keys: Collection[tuple[str, str]] | None = None
    ) -> dict[tuple[str, str], list[ReportDay]]:
        """What drift reports say of each day, without their findings: (tenant, model) -> days, the oldest first.

        Args:
            first, last: days, both included. keys: only these; None = all.
        """
        c = drift_reports.c
        causes, advice = c.body["causes"].label("causes"), c.body["recommendation"].astext.label("advice")
        query = sa.select(c.tenant, c.model, c.day, c.status, c.severity, causes, advice)
        query = query.where(c.day.between(first, last)).order_by(c.day)
        if keys is not None:
            query = query.where(sa.tuple_(c.tenant, c.model).in_(list(keys)))
        found: dict[tuple[str, str], list[ReportDay]] = defaultdict(list)
        with self.db.transaction() as connection:
            for row in connection.execute(query):
                told = ReportDay(row.day, row.status, row.severity, tuple(row.causes), row.advice)
                found[row.tenant, row.model].append(told)
        return dict(found)

    def judged_days(self, first: date, last: date) -> list[JudgedDay]:
        """When each day of the fleet was judged, the oldest first."""
        c = drift_reports.c
        query = sa.select(
            c.tenant, c.model, c.day, c.status, c.created_at, c.body["since"].astext.label("since")
        )
        query = query.where(c.day.between(first, last)).order_by(c.tenant, c.model, c.day)
        with self.db.transaction() as connection:
            return [
                JudgedDay(
                    row.tenant,
                    row.model,
                    row.day,
                    row.status,
                    row.created_at,
                    None if row.since is None else date.fromisoformat(row.since),
                )
                for row in connection.execute(query)
            ]

    @contextmanager
    def retraining_lock(self, retraining_id: str) -> Iterator[bool]:
        """Yield True to the one process that may carry a retraining on; the lock goes with its connection, so a kill frees it."""
        with self.db.own_connection() as connection:
            with outages_translated(self.db.url):
                row = connection.execute(
                    "SELECT pg_try_advisory_lock(%s, hashtext(%s))", [_LOCK_SPACE + 1, retraining_id]
                ).fetchone()
            yield row is not None and bool(row[0])

    def _retrainings(self, *wanted: "sa.ColumnElement[bool]", limit: int) -> list[Retraining]:
        query = sa.select(retrainings.c.state).where(*wanted)
        query = query.order_by(retrainings.c.created_at.desc(), retrainings.c.id.desc()).limit(limit)
        with self.db.transaction() as connection:
            return [retraining_from_json(state) for state in connection.execute(query).scalars()]


def _columns(retraining: Retraining) -> dict[str, Any]:
    return {
        "id": retraining.id,
        "tenant": retraining.tenant,
        "model": retraining.model,
        "phase": retraining.phase.value,
        "trigger": retraining.trigger.value,
        "live": retraining.live,
        "revision": retraining.revision,
        "version": retraining.version,
        "rollout_id": retraining.rollout_id,
        "created_at": retraining.created_at,
        "ended_at": retraining.ended_at,
        "state": retraining_to_json(retraining),
    }


def _refuse_second(connection: sa.Connection, made: Retraining) -> None:
    query = sa.select(retrainings.c.id, retrainings.c.phase, retrainings.c.live).where(
        sa.or_(retrainings.c.id == made.id, sa.and_(retrainings.c.live, retrainings.c.model == made.model))
    )
    found = connection.execute(query.order_by(retrainings.c.live.desc()).limit(1)).one_or_none()
    if found is None:
        return
    if found.live:
        hint = f"wait for it, or end it: `headgate cancel-retraining {found.id}`"
        what = f"live retraining of {made.model}"
        raise ConflictError(what, "none", f"{found.id} ({found.phase})", hint)
    raise ConflictError(f"retraining id {made.id}", "free", f"taken ({found.phase})", "ask again")


def _record(connection: sa.Connection, after: Retraining, before: Retraining | None, *, actor: str) -> None:
    body = {"state": retraining_to_json(after)}
    audit.append(
        connection,
        _Subject(after),
        "retraining",
        actor=actor,
        reason=after.said or after.reason,
        body=body,
        phases=(before.phase.value if before else None, after.phase.value),
    )

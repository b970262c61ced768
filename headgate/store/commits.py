"""Writing rollouts: one transaction per transition, with its audit record and its effects."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.core.rollout import Approval, EffectKind, Rollout, StepResult
from headgate.core.verdict import Verdict
from headgate.errors import ConflictError, NotFoundError
from headgate.store import audit
from headgate.store.codec import (
    canonical,
    plain,
    rollout_from_json,
    rollout_to_json,
    ruling_to_json,
    utc_now,
    verdicts_to_json,
)
from headgate.store.database import Part
from headgate.store.rollouts import rollout_columns
from headgate.store.schema import alerts, approvals, flags, outbox, rollouts, verdicts

_OUTSIDE = frozenset(
    {
        EffectKind.SYNC_REGISTRY,
        EffectKind.REQUEST_APPROVAL,
        EffectKind.CLOSE_APPROVAL,
        EffectKind.RECORD_EVIDENCE,
        EffectKind.HOOK,
    }
)
"""Effects that go through the outbox; the others are PostgreSQL's own and happen in the transaction."""
_LOCK_SPACE = 7_302


class Commits(Part):
    """The only writer of `rollouts`."""

    def create(self, result: StepResult, *, actor: str) -> Rollout:
        """Write a new rollout with its first effects.

        Raises:
            ConflictError: the model has a live rollout already (named), or the id is taken.
        """
        rollout = replace(result.rollout, revision=1)
        with self.db.transaction() as connection:
            _lock(connection, rollout)
            _refuse_duplicate(connection, rollout)
            connection.execute(sa.insert(rollouts).values(rollout_columns(rollout)))
            names = (f"ff.ab_testing_{rollout.id}", f"ff.challenger_{rollout.id}")
            rows = [{"name": name, "rollout_id": rollout.id, "enabled": True} for name in names]
            connection.execute(insert(flags).values(rows).on_conflict_do_nothing())
            _write_approval(connection, rollout, None)
            _carry_out(connection, result, rollout)
            body = _body(result, rollout, {}, {}) | {"spec": rollout.spec.model_dump(mode="json")}
            audit.append(
                connection,
                rollout,
                "created",
                actor=actor,
                reason=result.ruling.reason,
                body=body,
                phases=(None, rollout.phase.value),
            )
        return rollout

    def commit(
        self,
        before: Rollout,
        result: StepResult,
        *,
        actor: str,
        kind: str = "transition",
        verdicts: Mapping[str, Verdict] | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Rollout:
        """Write one transition, its audit record and its effects: all of it or nothing.

        Raises:
            ConflictError: the rollout is no longer at `before.revision`.
            NotFoundError: no such rollout.
        """
        rollout = replace(result.rollout, revision=before.revision + 1)
        judged = verdicts if verdicts is not None else {}
        with self.db.transaction() as connection:
            _lock(connection, rollout)
            _check_revision(connection, before)
            connection.execute(
                sa.update(rollouts).where(rollouts.c.id == before.id).values(rollout_columns(rollout))
            )
            if judged:
                _write_verdicts(connection, rollout.id, judged)
            _write_approval(connection, rollout, before.approval)
            _carry_out(connection, result, rollout)
            audit.append(
                connection,
                rollout,
                kind,
                actor=actor,
                reason=result.ruling.reason,
                body=_body(result, rollout, judged, detail or {}) | {"before": _short(before)},
                phases=(before.phase.value, rollout.phase.value),
            )
        return rollout

    def save_quiet(self, items: Sequence[tuple[Rollout, StepResult, Mapping[str, Verdict]]]) -> list[str]:
        """Write many results that move nothing, in one transaction: state and current verdicts.

        The revision stays, so a person's verb that is decided meanwhile still goes through.

        Returns:
            Ids that were skipped, because somebody moved them since they were read.
        """
        if not items:
            return []
        rows = [_quiet_row(before, result, judged) for before, result, judged in items]
        columns = [list(column) for column in zip(*rows, strict=True)]
        with self.db.cursor() as cursor:
            cursor.execute(_SAVE_QUIET, [*columns, utc_now()])
            written = {row[0] for row in cursor.fetchall()}
        return [row[0] for row in rows if row[0] not in written]


_SAVE_QUIET = """
WITH given AS (
    SELECT * FROM unnest(%s::text[], %s::int[], %s::timestamptz[], %s::jsonb[], %s::jsonb[])
        AS g (id, revision, evidence_since, state, verdicts)
), locked AS (
    SELECT r.id FROM rollouts r JOIN given g ON g.id = r.id AND g.revision = r.revision
    ORDER BY r.id FOR UPDATE OF r
), moved AS (
    UPDATE rollouts r SET state = g.state, evidence_since = g.evidence_since
    FROM given g JOIN locked l ON l.id = g.id WHERE r.id = g.id
    RETURNING r.id
), judged AS (
    INSERT INTO verdicts (rollout_id, at, verdicts)
    SELECT g.id, %s, g.verdicts FROM given g JOIN moved m ON m.id = g.id WHERE g.verdicts <> '{}'
    ON CONFLICT (rollout_id) DO UPDATE SET at = excluded.at, verdicts = excluded.verdicts
)
SELECT id FROM moved
"""


def _quiet_row(before: Rollout, result: StepResult, judged: Mapping[str, Verdict]) -> tuple[Any, ...]:
    moved = result.rollout
    if (moved.phase, moved.weight_percent, moved.step) != (before.phase, before.weight_percent, before.step):
        raise ConflictError(f"quiet save of {before.id}", _short(before), _short(moved), "use commit")
    after = replace(moved, revision=before.revision)
    state = json.dumps(rollout_to_json(after))
    return before.id, before.revision, after.evidence_since, state, json.dumps(verdicts_to_json(judged))


def _lock(connection: sa.Connection, rollout: Rollout) -> None:
    key = sa.func.hashtext(f"{rollout.tenant}\x1f{rollout.model}")
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK_SPACE, key)))


def _refuse_duplicate(connection: sa.Connection, rollout: Rollout) -> None:
    same_model = sa.and_(
        rollouts.c.live, rollouts.c.tenant == rollout.tenant, rollouts.c.model == rollout.model
    )
    query = sa.select(rollouts.c.id, rollouts.c.phase, rollouts.c.live)
    query = query.where(sa.or_(rollouts.c.id == rollout.id, same_model)).order_by(rollouts.c.live.desc())
    found = connection.execute(query.limit(1)).one_or_none()
    if found is None:
        return
    if found.live:
        what, hint = f"live rollout of {rollout.model}", f"end it first: `headgate abort {found.id}`"
        raise ConflictError(what, "none", f"{found.id} ({found.phase})", hint)
    raise ConflictError(f"rollout id {rollout.id}", "free", f"taken ({found.phase})", "start it again")


def _check_revision(connection: sa.Connection, before: Rollout) -> None:
    query = sa.select(rollouts.c.revision).where(rollouts.c.id == before.id).with_for_update()
    revision = connection.execute(query).scalar_one_or_none()
    if revision is None:
        raise NotFoundError("rollout", before.id, "see `headgate list`")
    if revision != before.revision:
        hint = "somebody else moved it; look again"
        raise ConflictError(
            f"rollout {before.id}", f"revision {before.revision}", f"revision {revision}", hint
        )


def _write_verdicts(connection: sa.Connection, rollout_id: str, judged: Mapping[str, Verdict]) -> None:
    row = {"rollout_id": rollout_id, "at": utc_now(), "verdicts": verdicts_to_json(judged)}
    connection.execute(
        insert(verdicts).values(row).on_conflict_do_update(index_elements=["rollout_id"], set_=row)
    )


def _write_approval(connection: sa.Connection, rollout: Rollout, before: Approval | None) -> None:
    if rollout.approval is None or rollout.approval == before:
        return
    fields = {name: getattr(rollout.approval, name) for name in Approval.__dataclass_fields__}
    row = {name: plain(value) if isinstance(value, str) else value for name, value in fields.items()}
    key = ["rollout_id", "step", "requested_at"]
    row = {name: value for name, value in row.items() if name in approvals.columns} | {
        "rollout_id": rollout.id
    }
    kept = {name: value for name, value in row.items() if name not in key}
    connection.execute(insert(approvals).values(row).on_conflict_do_update(index_elements=key, set_=kept))


def _carry_out(connection: sa.Connection, result: StepResult, rollout: Rollout) -> None:
    for effect in result.effects:
        detail = plain(effect.detail)
        if effect.kind in _OUTSIDE:
            row = {"rollout_id": rollout.id, "kind": effect.kind.value, "detail": detail}
            connection.execute(sa.insert(outbox).values(row))
        elif effect.kind is EffectKind.DISABLE_FLAGS:
            change = sa.update(flags).where(flags.c.rollout_id == rollout.id)
            connection.execute(change.values(enabled=False, updated_at=sa.func.now()))
        elif effect.kind is EffectKind.ALERT:
            known = {"rollout_id": rollout.id, "tenant": rollout.tenant, "model": rollout.model}
            connection.execute(sa.insert(alerts).values(known | {"at": utc_now(), "detail": detail}))
        elif effect.kind is EffectKind.CUT_OFF:
            _notify(connection, "headgate_split", _traffic(rollout) | {"weight": 0})
        elif effect.kind is EffectKind.CLEAR_CACHE:
            _notify(connection, "headgate_cache", _traffic(rollout))
        elif effect.kind is EffectKind.BATCH_REQUESTS:
            _notify(connection, "headgate_batching", _traffic(rollout) | {"on": True})
    if rollout.batching and not rollout.phase.live:
        _notify(connection, "headgate_batching", _traffic(rollout) | {"on": False})
    connection.execute(sa.select(sa.func.pg_notify("headgate_nudge", rollout.id)))


def _traffic(rollout: Rollout) -> dict[str, Any]:
    return {
        "tenant": rollout.tenant,
        "model": rollout.model,
        "version": rollout.challenger,
        "rollout_id": rollout.id,
    }


def _notify(connection: sa.Connection, channel: str, payload: Mapping[str, Any]) -> None:
    connection.execute(sa.select(sa.func.pg_notify(channel, canonical(payload))))


def _short(rollout: Rollout) -> dict[str, Any]:
    return {
        "phase": rollout.phase.value,
        "step": rollout.step,
        "weight_percent": rollout.weight_percent,
        "revision": rollout.revision,
    }


def _body(
    result: StepResult, rollout: Rollout, judged: Mapping[str, Verdict], detail: Mapping[str, Any]
) -> dict[str, Any]:
    state = rollout_to_json(rollout)
    del state["spec"]
    return {
        "ruling": ruling_to_json(result.ruling),
        "effects": [{"kind": effect.kind.value, "detail": plain(effect.detail)} for effect in result.effects],
        "verdicts": verdicts_to_json(judged),
        "state": state,
        "detail": plain(detail),
    }


def state_at(records: Sequence[audit.AuditRecord]) -> Rollout | None:
    """The rollout as the last of its records left it; None when none of them holds a state."""
    spec = next((record.body["spec"] for record in records if "spec" in record.body), None)
    state = next((record.body["state"] for record in reversed(records) if "state" in record.body), None)
    if spec is None or state is None:
        return None
    return rollout_from_json(state | {"spec": spec})

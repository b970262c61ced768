"""Effects outside PostgreSQL that a committed transition still owes, and approvals."""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from headgate.core.rollout import Approval, Effect, EffectKind
from headgate.errors import NotFoundError
from headgate.store.codec import clean_text
from headgate.store.database import Part
from headgate.store.schema import approvals, outbox

_MAX_DELAY_S = 30
_ERROR_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One effect to carry out; `attempts` counts the failed ones. Every effect must bear being done twice."""

    id: int
    rollout_id: str
    effect: Effect
    attempts: int


@dataclass(frozen=True, slots=True)
class ApprovalRecord:
    """One approval as it was asked for and answered, and the flow run that waits for it."""

    rollout_id: str
    approval: Approval
    flow_run_id: str | None


# An approval may only be closed after it was requested; nothing else waits for anything, so that a Prefect
# that is down can't hold back a rollback. What is told to the user's platform comes last: a hundred such, and nobody
# there to take them, would hide a change of traffic behind them.
_PENDING = """
SELECT o.id, o.rollout_id, o.kind, o.detail, o.attempts FROM outbox o
WHERE o.done_at IS NULL AND o.not_before <= now()
  AND (CAST(:rollout_id AS text) IS NULL OR o.rollout_id = :rollout_id)
  AND NOT (o.kind = 'close_approval' AND EXISTS (
      SELECT 1 FROM outbox e WHERE e.rollout_id = o.rollout_id AND e.done_at IS NULL
      AND e.id < o.id AND e.kind = 'request_approval' AND e.not_before > now()))
ORDER BY o.kind = 'hook', o.id LIMIT :limit
"""


class Outbox(Part):
    """What is still to be done outside."""

    def pending_effects(self, rollout_id: str | None = None, limit: int = 100) -> list[OutboxItem]:
        """Effects that are due, in the order they were decided, hooks last; those backing off are left out."""
        with self.db.transaction() as connection:
            rows = connection.execute(sa.text(_PENDING), {"rollout_id": rollout_id, "limit": limit})
            return [_item(row) for row in rows.mappings()]

    def effect_done(self, effect_id: int) -> None:
        """Mark one as carried out."""
        change = sa.update(outbox).where(outbox.c.id == effect_id, outbox.c.done_at.is_(None))
        with self.db.transaction() as connection:
            connection.execute(change.values(done_at=sa.func.now(), last_error=None))

    def effect_failed(self, effect_id: int, error: str) -> None:
        """Note a failure and try again later: after 1, 2, 4 … up to 30 s."""
        delay_s = sa.func.least(_MAX_DELAY_S, sa.func.power(2, sa.func.least(outbox.c.attempts, 10)))
        change = sa.update(outbox).where(outbox.c.id == effect_id, outbox.c.done_at.is_(None))
        values = {
            "attempts": outbox.c.attempts + 1,
            "last_error": clean_text(error)[:_ERROR_CHARS],
            "not_before": sa.func.now() + delay_s * sa.text("interval '1 second'"),
        }
        with self.db.transaction() as connection:
            connection.execute(change.values(values))

    def has_pending(self, ids: Collection[str], kind: EffectKind | None = None) -> set[str]:
        """Those of the rollouts that still owe an effect (of a kind), due or backing off."""
        query = sa.select(outbox.c.rollout_id).distinct()
        query = query.where(outbox.c.done_at.is_(None), outbox.c.rollout_id.in_(ids))
        if kind is not None:
            query = query.where(outbox.c.kind == kind.value)
        with self.db.transaction() as connection:
            return set(connection.execute(query).scalars())

    def approvals(self, rollout_id: str) -> list[ApprovalRecord]:
        """Every approval asked for in one rollout, oldest first."""
        query = sa.select(approvals).where(approvals.c.rollout_id == rollout_id)
        with self.db.transaction() as connection:
            rows = connection.execute(query.order_by(approvals.c.requested_at)).mappings()
            return [_approval(row) for row in rows]

    def set_approval_run(self, rollout_id: str, step: int, flow_run_id: str) -> None:
        """Note which flow run shows the newest request of a step.

        Raises:
            NotFoundError: no approval was asked for at that step.
        """
        newest = sa.select(sa.func.max(approvals.c.requested_at)).where(
            approvals.c.rollout_id == rollout_id, approvals.c.step == step
        )
        change = sa.update(approvals).where(
            approvals.c.rollout_id == rollout_id,
            approvals.c.step == step,
            approvals.c.requested_at == newest.scalar_subquery(),
        )
        with self.db.transaction() as connection:
            if connection.execute(change.values(flow_run_id=flow_run_id)).rowcount == 0:
                raise NotFoundError("approval", f"{rollout_id} step {step}")


def _item(row: sa.RowMapping) -> OutboxItem:
    return OutboxItem(
        row["id"], row["rollout_id"], Effect(EffectKind(row["kind"]), row["detail"]), row["attempts"]
    )


def _approval(row: sa.RowMapping) -> ApprovalRecord:
    fields = {name: row[name] for name in Approval.__dataclass_fields__ if name in row}
    return ApprovalRecord(row["rollout_id"], Approval(**fields), row["flow_run_id"])

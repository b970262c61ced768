"""The audit: one append-only, hash-chained row for everything that was decided or done."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import sqlalchemy as sa

from headgate.errors import NotFoundError
from headgate.store.codec import canonical, clean_text, utc_now
from headgate.store.database import Part
from headgate.store.schema import audit_head, rollouts, transitions

_COLUMNS = tuple(column.name for column in transitions.columns)
_CHUNK = 2_000
SEEN_KIND = "registry_seen"
REGISTRY = "registry:"
"""What the `rollout_id` of a record begins with that is about a model's registry entry and no rollout."""
OF_NO_ROLLOUT = ("retraining:", "monitoring:", "quarantine:", "flag:")
"""And that is about retraining."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One record; `body` holds the ruling, the verdicts with their numbers, the effects and the state."""

    seq: int
    at: datetime
    rollout_id: str
    kind: str
    actor: str
    reason: str
    from_phase: str | None
    to_phase: str | None
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What reading the whole chain found. `problem` names the first record that can't be trusted."""

    records: int
    verified: bool
    problem: str | None


@dataclass(frozen=True, slots=True)
class _RegistryEntry:
    """A model's entry in the registry, as the subject of a record."""

    id: str
    tenant: str
    model: str


def record_hash(row: Mapping[str, Any] | sa.RowMapping) -> str:
    """SHA-256 over every column but the hash itself, in table order."""
    fields = [row[name] for name in _COLUMNS if name != "hash"]
    fields[1] = row["at"].astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Subject(Protocol):
    """What a record is about: a rollout, or a row that names one."""

    @property
    def id(self) -> str:
        """The rollout's id."""

    @property
    def tenant(self) -> str:
        """The rollout's tenant."""

    @property
    def model(self) -> str:
        """The rollout's model."""


def append(
    connection: sa.Connection,
    rollout: Subject,
    kind: str,
    *,
    actor: str,
    reason: str,
    body: Mapping[str, Any],
    phases: tuple[str | None, str | None] = (None, None),
    at: datetime | None = None,
) -> int:
    """Append one record as the last act of a transaction; returns its seq.

    The head row stays locked until the commit, so the chain has one order.
    """
    head = connection.execute(sa.select(audit_head).with_for_update()).one()
    row: dict[str, Any] = {
        "seq": head.seq + 1,
        "at": at if at is not None else utc_now(),
        "rollout_id": rollout.id,
        "tenant": rollout.tenant,
        "model": rollout.model,
        "kind": clean_text(kind),
        "actor": clean_text(actor),
        "reason": clean_text(reason),
        "from_phase": phases[0],
        "to_phase": phases[1],
        "body": canonical(body),
        "prev_hash": head.hash,
    }
    row["hash"] = record_hash(row)
    connection.execute(sa.insert(transitions).values(row))
    connection.execute(sa.update(audit_head).values(seq=row["seq"], hash=row["hash"]))
    return int(row["seq"])


class Audit(Part):
    """Reads the audit, and appends records that are no transitions."""

    def history(self, rollout_id: str) -> list[AuditRecord]:
        """Every record of one rollout, oldest first; empty for an unknown one."""
        query = (
            sa.select(transitions).where(transitions.c.rollout_id == rollout_id).order_by(transitions.c.seq)
        )
        with self.db.transaction() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def record(self, rollout_id: str, kind: str, actor: str, reason: str, body: Mapping[str, Any]) -> int:
        """Append a record that moves nothing (e.g. kind `ab_testing_rollback`); returns its seq.

        Raises:
            NotFoundError: no such rollout.
        """
        with self.db.transaction() as connection:
            query = sa.select(rollouts.c.id, rollouts.c.tenant, rollouts.c.model)
            found = connection.execute(query.where(rollouts.c.id == rollout_id)).one_or_none()
            if found is None:
                raise NotFoundError("rollout", rollout_id, "see `headgate list`")
            return append(connection, found, kind, actor=actor, reason=reason, body=body)

    def record_registry(
        self, model: str, tenant: str, kind: str, *, actor: str, reason: str, body: Mapping[str, Any]
    ) -> int:
        """Append what somebody did to a model's registry entry outside of any rollout; returns its seq."""
        with self.db.transaction() as connection:
            about = _RegistryEntry(REGISTRY + model, tenant, model)
            return append(connection, about, kind, actor=actor, reason=reason, body=body)

    def note_registry(self, model: str, tenant: str, shown: Mapping[str, Any]) -> int | None:
        """Append what a model's registry entry shows now, whoever changed it; None when that stands there already.

        Args:
            shown: plain JSON: the aliases' versions and the weights.
        """
        about = _RegistryEntry(REGISTRY + model, tenant, model)
        last = (
            sa.select(transitions.c.body)
            .where(transitions.c.rollout_id == about.id, transitions.c.kind == SEEN_KIND)
            .order_by(transitions.c.seq.desc())
            .limit(1)
        )
        with self.db.transaction() as connection:
            # Locked before the look, so that of several gateways one writes it.
            connection.execute(sa.select(audit_head).with_for_update())
            found = connection.execute(last).scalar_one_or_none()
            before = json.loads(found)["to"] if found is not None else None
            if before == json.loads(canonical(shown)):
                return None
            body = {"from": before, "to": shown}
            return append(connection, about, SEEN_KIND, actor="gateway", reason="seen in MLflow", body=body)

    def registry_history(self, model: str | None = None, limit: int = 1000) -> list[tuple[str, AuditRecord]]:
        """Who changed what in the registry, by hand or by a rollout: (model, record), the newest first."""
        own = transitions.c.rollout_id.startswith(REGISTRY, autoescape=True)
        query = sa.select(transitions).order_by(transitions.c.seq.desc()).limit(limit)
        query = query.where(own if model is None else sa.and_(own, transitions.c.model == model))
        with self.db.transaction() as connection:
            return [(row["model"], _record(row)) for row in connection.execute(query).mappings()]

    def verify(self) -> VerifyReport:
        """Read the whole chain; finds an altered record, a missing one and a cut tail."""
        with self.db.transaction() as connection:
            # Head and records in one snapshot: what is appended meanwhile is not half seen.
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            head = connection.execute(sa.select(audit_head)).one_or_none()
            query = sa.select(transitions).order_by(transitions.c.seq).execution_options(yield_per=_CHUNK)
            chunks = connection.execute(query).mappings().partitions()
            return _verify(chunks, None if head is None else (head.seq, head.hash))


def _verify(chunks: Iterator[Sequence[sa.RowMapping]], head: tuple[int, str] | None) -> VerifyReport:
    seq, previous, problem = 0, "", None
    for row in (row for chunk in chunks for row in chunk):
        if row["seq"] != seq + 1:
            problem = f"record {seq + 1} is missing"
        elif row["prev_hash"] != previous:
            problem = f"record {row['seq']} does not follow record {seq}"
        elif record_hash(row) != row["hash"]:
            problem = f"record {row['seq']} was altered"
        if problem is not None:
            return VerifyReport(seq, False, problem)
        seq, previous = row["seq"], row["hash"]
    if head is None:
        return VerifyReport(seq, False, "the head of the chain is missing")
    if head != (seq, previous):
        return VerifyReport(seq, False, f"the chain ends at record {seq}, its head says {head[0]}")
    return VerifyReport(seq, True, None)


def _record(row: sa.RowMapping) -> AuditRecord:
    fields = {name: row[name] for name in AuditRecord.__dataclass_fields__ if name != "body"}
    return AuditRecord(**fields, body=json.loads(row["body"]))

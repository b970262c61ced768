"""The audit as an outbox of evidence: what was not copied to the artifact store yet, in the order of the chain."""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.store.archive_tables import evidence_exports
from headgate.store.audit import record_hash
from headgate.store.codec import canonical, utc_now
from headgate.store.database import Part
from headgate.store.schema import transitions


class Exports(Part):
    """Records are only ever appended, one after another, so one number says how far a place has them."""

    def exported_until(self, place: str) -> int:
        """The seq up to which a place has every record; 0 = none yet."""
        query = sa.select(evidence_exports.c.seq).where(evidence_exports.c.place == place)
        with self.db.transaction() as connection:
            return int(connection.execute(query).scalar_one_or_none() or 0)

    def evidence_after(self, seq: int, limit: int) -> list[dict[str, Any]]:
        """The records that follow, as plain JSON with their hashes; `check_exported` verifies one."""
        query = sa.select(transitions).where(transitions.c.seq > seq).order_by(transitions.c.seq).limit(limit)
        with self.db.transaction() as connection:
            return [_plain(row) for row in connection.execute(query).mappings()]

    def save_exported(self, place: str, seq: int) -> None:
        """Note how far a place has the records; never back."""
        new = insert(evidence_exports).values(place=place, seq=seq, exported_at=utc_now())
        change = new.on_conflict_do_update(
            index_elements=["place"],
            set_={"seq": new.excluded.seq, "exported_at": new.excluded.exported_at},
            where=evidence_exports.c.seq < new.excluded.seq,
        )
        with self.db.transaction() as connection:
            connection.execute(change)

    def newest_evidence(self) -> int:
        """The seq of the newest record; 0 = none yet."""
        with self.db.transaction() as connection:
            return int(connection.execute(sa.select(sa.func.max(transitions.c.seq))).scalar_one() or 0)


def check_exported(record: dict[str, Any]) -> bool:
    """Whether an exported record is what stood in the chain: its hash is that of its fields."""
    fields = record | {"at": datetime.fromisoformat(record["at"]), "body": canonical(record["body"])}
    return bool(record_hash(fields) == record["hash"])


def _plain(row: sa.RowMapping) -> dict[str, Any]:
    return {**row, "at": row["at"].isoformat(timespec="microseconds"), "body": json.loads(row["body"])}

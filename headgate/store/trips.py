"""Challengers that a gateway cut off by itself, on its own evidence."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.core.rollout import Rollout, Trip
from headgate.errors import NotFoundError
from headgate.store.codec import canonical, clean_text
from headgate.store.database import Part
from headgate.store.schema import rollouts, trips

_FIRST = """
SELECT DISTINCT ON (t.rollout_id) t.rollout_id, t.at, t.requests, t.failures, t.log_e, t.gateway
FROM trips t JOIN unnest(%s::text[], %s::text[], %s::timestamptz[]) AS w (id, version, began)
    ON t.rollout_id = w.id AND t.version = w.version AND t.at >= w.began
ORDER BY t.rollout_id, t.at, t.gateway
"""


class Trips(Part):
    """Writes and reads them."""

    def report_trip(self, rollout_id: str, version: str, trip: Trip) -> bool:
        """Note that a gateway cut the version off, and in the same transaction tell every other gateway and the sweep.

        Returns:
            False when this gateway had told it before; nothing is written or sent then.

        Raises:
            NotFoundError: no such rollout.
        """
        row: dict[str, Any] = asdict(trip) | {"gateway": clean_text(trip.gateway)}
        row |= {"rollout_id": rollout_id, "version": version}
        known = sa.select(rollouts.c.tenant, rollouts.c.model).where(rollouts.c.id == rollout_id)
        with self.db.transaction() as connection:
            found = connection.execute(known).mappings().one_or_none()
            if found is None:
                raise NotFoundError("rollout", rollout_id, "see `headgate list`")
            write = insert(trips).values(row).on_conflict_do_nothing().returning(trips.c.at)
            if connection.execute(write).first() is None:
                return False
            told = {**found, "version": version, "rollout_id": rollout_id, "weight": 0}
            connection.execute(sa.select(sa.func.pg_notify("headgate_split", canonical(told))))
            connection.execute(sa.select(sa.func.pg_notify("headgate_nudge", rollout_id)))
        return True

    def read_trips(self, rollouts: Sequence[Rollout]) -> dict[str, Trip]:
        """Each rollout's first trip of its challenger since it began; those without one are absent."""
        columns = (
            [one.id for one in rollouts],
            [one.challenger for one in rollouts],
            [one.created_at for one in rollouts],
        )
        with self.db.cursor() as cursor:
            cursor.execute(_FIRST, columns)
            return {row[0]: Trip(row[1].astimezone(UTC), row[2], row[3], row[4], row[5]) for row in cursor}

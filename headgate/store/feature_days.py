"""Reference grids, and each day's sums on them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from headgate.core.drift.grid import Grid
from headgate.core.drift.sums import DaySums
from headgate.store.codec import utc_now
from headgate.store.database import Part
from headgate.store.drift_tables import feature_days, feature_grids

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class KeptGrid:
    """A model's grid from the day `since` on.

    Attributes:
        version: whose rows it was learnt from. champion: the newest version that was seen to fit it.
        seen: the last day on which it did.
    """

    since: date
    version: str
    champion: str
    seen: date
    grid: Grid


@dataclass(frozen=True, slots=True)
class FleetDays:
    """One model's days on the grid that is in force on the last one."""

    tenant: str
    model: str
    grid: Grid
    days: Mapping[date, DaySums]


# In force on a day is the newest grid that began by then; before the first one began, that one.
_GRIDS = """
SELECT DISTINCT ON (tenant, model) tenant, model, revision, grid FROM feature_grids {wanted}
ORDER BY tenant, model, since <= %(last)s DESC, CASE WHEN since <= %(last)s THEN since END DESC, since
"""
_FLEET = """
SELECT tenant, model, day, grid_revision, sums FROM feature_days {wanted}
WHERE day BETWEEN %(first)s AND %(last)s ORDER BY tenant, model, day
"""
_WANTED = (
    "JOIN (SELECT DISTINCT * FROM unnest(%(tenants)s::text[], %(models)s::text[]) AS w (tenant, model)) w"
    " USING (tenant, model)"
)
# Not by the clock: a history that is filled in afterwards is as good as any other.
_PRUNE = """
DELETE FROM feature_days d USING (SELECT tenant, model, max(day) AS day FROM feature_days GROUP BY 1, 2) newest
WHERE newest.tenant = d.tenant AND newest.model = d.model AND d.day < newest.day - %s
"""
_COUNTED = "SELECT DISTINCT tenant, model FROM feature_days WHERE day = %s ORDER BY tenant, model"


class FeatureDays(Part):
    """Writes and reads them."""

    def grids(self, tenant: str, model: str) -> list[KeptGrid]:
        """All of a model's grids, the first one first."""
        c = feature_grids.c
        query = (
            sa.select(c.since, c.version, c.champion, c.seen, c.grid)
            .where(c.tenant == tenant, c.model == model)
            .order_by(c.since)
        )
        with self.db.transaction() as connection:
            return [
                KeptGrid(since, version, champion, seen, _grid(text))
                for since, version, champion, seen, text in connection.execute(query)
            ]

    def kept_grid(self, tenant: str, model: str, day: date | None = None) -> KeptGrid | None:
        """The grid in force on a day, or now; before the first one began, that one. None = none was learnt yet."""
        kept = self.grids(tenant, model)
        begun = [one for one in kept if day is None or one.since <= day]
        return (begun or kept[:1] or [None])[-1]  # type: ignore[list-item]

    def grid(self, tenant: str, model: str, day: date | None = None) -> Grid | None:
        """The grid itself."""
        kept = self.kept_grid(tenant, model, day)
        return None if kept is None else kept.grid

    def save_grid(self, tenant: str, model: str, kept: KeptGrid) -> None:
        """Keep a grid; it takes the place of those that began on the same day or later."""
        row = {
            "tenant": tenant,
            "model": model,
            "revision": kept.grid.revision,
            "since": kept.since,
            "version": kept.version,
            "champion": kept.champion,
            "seen": kept.seen,
            "grid": json.dumps(kept.grid.to_json()),
            "learnt_at": utc_now(),
        }
        c = feature_grids.c
        with self.db.transaction() as connection:
            connection.execute(
                sa.delete(feature_grids).where(c.tenant == tenant, c.model == model, c.since >= kept.since)
            )
            connection.execute(sa.insert(feature_grids).values(row))

    def note_champion(self, tenant: str, model: str, since: date, champion: str, seen: date) -> None:
        """Note that on the day `seen` a champion fitted the grid that began on `since`."""
        c = feature_grids.c
        change = sa.update(feature_grids).where(c.tenant == tenant, c.model == model, c.since == since)
        with self.db.transaction() as connection:
            connection.execute(change.values(champion=champion, seen=seen))

    def save_day(self, tenant: str, model: str, day: date, revision: str, sums: DaySums) -> None:
        """Write a day's sums, in place of what was there."""
        row = {
            "tenant": tenant,
            "model": model,
            "day": day,
            "grid_revision": revision,
            "rows": sums.rows,
            "sums": sums.pack(),
        }
        key = ["tenant", "model", "day", "grid_revision"]
        with self.db.transaction() as connection:
            connection.execute(
                insert(feature_days).values(row).on_conflict_do_update(index_elements=key, set_=row)
            )

    def days(self, tenant: str, model: str, first: date, last: date) -> dict[date, DaySums]:
        """A model's days on the grid that is in force on the last one; days without rows are absent."""
        grid = self.grid(tenant, model, last)
        if grid is None:
            return {}
        c = feature_days.c
        query = (
            sa.select(c.day, c.sums)
            .where(c.tenant == tenant, c.model == model, c.day.between(first, last))
            .where(c.grid_revision == grid.revision)
            .order_by(c.day)
        )
        with self.db.transaction() as connection:
            return {day: DaySums.unpack(grid, sums) for day, sums in connection.execute(query)}

    def counted_subjects(self, day: date) -> list[tuple[str, str]]:
        """Tenant and model of everyone whose day was counted: whom drift is judged of."""
        with self.db.cursor() as cursor:
            return [(tenant, model) for tenant, model in cursor.execute(_COUNTED, [day])]

    def newest_counted_day(self, tenant: str | None = None, model: str | None = None) -> date | None:
        """The newest day that was counted, of a tenant's models or of one model; None = none was."""
        query = sa.select(sa.func.max(feature_days.c.day))
        if tenant is not None:
            query = query.where(feature_days.c.tenant == tenant)
        if model is not None:
            query = query.where(feature_days.c.model == model)
        with self.db.transaction() as connection:
            newest: date | None = connection.execute(query).scalar_one()
        return newest

    def fleet_days(
        self, first: date, last: date, keys: Sequence[tuple[str, str]] | None = None
    ) -> Iterator[FleetDays]:
        """Every model's days, tenant by tenant, through a server-side cursor: one model in memory at a time.

        Args:
            keys: only these pairs of tenant and model; None = all.
        """
        given: dict[str, Any] = {"first": first, "last": last}
        if keys is not None:
            given |= {"tenants": [tenant for tenant, _ in keys], "models": [model for _, model in keys]}
        grids, sums = (text.format(wanted="" if keys is None else _WANTED) for text in (_GRIDS, _FLEET))
        with self.db.cursor() as client:
            client.execute(grids, given)
            texts = {(tenant, model): (revision, text) for tenant, model, revision, text in client}
            with client.connection.cursor(name="fleet_days") as cursor:
                cursor.itersize = _AT_ONCE
                cursor.execute(sums, given, binary=True)
                for (tenant, model), rows in groupby(cursor, key=itemgetter(0, 1)):
                    revision, text = texts.get((tenant, model), (None, ""))
                    packed = {day: data for _, _, day, known, data in rows if known == revision}
                    if packed:
                        grid = _grid(text)
                        days = {day: DaySums.unpack(grid, data) for day, data in packed.items()}
                        yield FleetDays(tenant, model, grid, days)

    def prune_days(self, keep_days: int) -> int:
        """Delete sums of days so long before their model's newest one; figures stay. Returns how many."""
        with self.db.cursor() as cursor:
            cursor.execute(_PRUNE, [keep_days])
            return cursor.rowcount


def _grid(text: str) -> Grid:
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError:
        # An edge may be infinite, which is no JSON but for Python's own.
        told = json.loads(text)
    return Grid.from_json(told)

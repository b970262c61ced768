"""How often PostgreSQL finds in memory what it is asked for."""

from headgate.store.database import Part

_L3 = "SELECT blks_hit, blks_read FROM pg_stat_database WHERE datname = current_database()"
_L4 = """
SELECT coalesce(heap_blks_hit, 0) + coalesce(idx_blks_hit, 0), coalesce(heap_blks_read, 0) + coalesce(idx_blks_read, 0)
FROM pg_statio_user_tables WHERE relid = 'rollups'::regclass
"""


class HitRates(Part):
    """Reads PostgreSQL's own counters."""

    def buffer_hits(self) -> dict[str, tuple[int, int]]:
        """Blocks found in memory and blocks read, since PostgreSQL counts, by the documents' names of the tiers.

        `l3` is the buffer cache, over all of the database. `l4` stands for the materialised views: here the table of
        rollups, which is what the checks read in place of the predictions.

        Raises:
            StoreUnavailableError: PostgreSQL can't be reached.
        """
        with self.db.cursor() as cursor:
            rows = {tier: cursor.execute(query).fetchone() for tier, query in (("l3", _L3), ("l4", _L4))}
        return {tier: (int(row[0]), int(row[1])) for tier, row in rows.items() if row is not None}

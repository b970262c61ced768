"""What the sequential tests remember: each thing is counted once, whoever counts it."""

import logging
from collections.abc import Collection, Mapping

from headgate.core.guard.codec import state_from_bytes, state_to_bytes
from headgate.core.guard.state import GuardState
from headgate.store.codec import clean_text, utc_now
from headgate.store.database import Part

logger = logging.getLogger(__name__)

StateKey = tuple[str, str]
"""Rollout id, and segment (`column=value`; '' = the whole rollout)."""

_READ = "SELECT rollout_id, segment, state FROM evidence_state WHERE rollout_id = ANY(%s) ORDER BY segment"

# A state that was read and is gone was pruned, or its rollout was: it must not come back as if nothing were counted.
_WRITE = """
WITH given AS (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::bigint[], %s::timestamptz[], %s::bigint[],
        %b::bytea[]) AS g (rollout_id, segment, was_until, was_seq, counted_until, label_seq, state)
), locked AS (
    SELECT e.rollout_id, e.segment FROM evidence_state e JOIN given g USING (rollout_id, segment)
    WHERE e.counted_until IS NOT DISTINCT FROM g.was_until AND e.label_seq = g.was_seq
    ORDER BY e.rollout_id, e.segment FOR UPDATE OF e
), advanced AS (
    UPDATE evidence_state e
    SET counted_until = g.counted_until, label_seq = g.label_seq, state = g.state, updated_at = %s
    FROM given g JOIN locked l USING (rollout_id, segment)
    WHERE e.rollout_id = g.rollout_id AND e.segment = g.segment
    RETURNING e.rollout_id, e.segment
), begun AS (
    INSERT INTO evidence_state (rollout_id, segment, counted_until, label_seq, state, updated_at)
    SELECT g.rollout_id, g.segment, g.counted_until, g.label_seq, g.state, %s FROM given g
    WHERE g.was_until IS NULL AND g.was_seq = 0 ORDER BY g.rollout_id, g.segment
    ON CONFLICT DO NOTHING RETURNING rollout_id, segment
)
SELECT * FROM advanced UNION ALL SELECT * FROM begun
"""


class States(Part):
    """Reads and advances the states."""

    def read_states(self, ids: Collection[str]) -> dict[str, dict[str, GuardState]]:
        """Rollout id -> segment ('' = all of it) -> state; a rollout that has counted nothing yet is absent.

        A state that can't be read is logged and left out: a fresh one in its place is refused when it is written, so
        nothing is judged on half of the evidence.
        """
        found: dict[str, dict[str, GuardState]] = {}
        with self.db.cursor() as cursor:
            cursor.execute(_READ, [list(ids)], binary=True)
            for rollout_id, segment, state in cursor:
                try:
                    found.setdefault(rollout_id, {})[segment] = state_from_bytes(state)
                except ValueError as err:
                    logger.error("state %r of %s is left as it is: %s", segment, rollout_id, err)  # noqa: TRY400
        return found

    def write_states(self, items: Mapping[StateKey, tuple[GuardState, GuardState]]) -> set[StateKey]:
        """Write the states of a fleet in one statement, each only if it is still as it was read.

        Args:
            items: rollout id and segment -> the state as it was read (a fresh one when there was none), and as it is
                after counting.

        Returns:
            Keys that somebody else has advanced meanwhile (or pruned); of these nothing was written.
        """
        if not items:
            return set()
        now = utc_now()
        rows = [
            (
                key[0],
                clean_text(key[1]),
                before.counted_until,
                before.label_seq,
                after.counted_until,
                after.label_seq,
                state_to_bytes(after),
            )
            for key, (before, after) in sorted(items.items())
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        with self.db.cursor() as cursor:
            cursor.execute(_WRITE, [*columns, now, now])
            written = set(cursor.fetchall())
        return {key for key in items if (key[0], clean_text(key[1])) not in written}

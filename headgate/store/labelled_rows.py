"""Labelled answers of one day, each request's row once, whichever version gave the answer."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from headgate.store.database import Part

# A shadow's row repeats a request that somebody else answered. A failed try has the champion's answer beside it.
_SERVED = (
    "FROM predictions WHERE tenant = %(tenant)s AND model = %(model)s AND time >= %(start)s AND time < %(end)s"
    " AND arm <> 'shadow' AND error IS NULL AND prediction IS NOT NULL"
)
_COUNT = (
    f"SELECT count(*), count(*) FILTER (WHERE label IS NOT NULL AND labelled_at <= %(known_by)s) {_SERVED}"
)
_ROWS = (
    'SELECT time, request_id, "row", inputs::text, label, labelled_at'
    f" {_SERVED} AND label IS NOT NULL AND labelled_at <= %(known_by)s"
    ' ORDER BY time, request_id, "row"'
)
CHUNK = 1000
"""Rows fetched at once (DB-13)."""
_STATEMENT_TIMEOUT = "SET LOCAL statement_timeout = '300s'"


class LabelledRow(NamedTuple):
    """One answered row of a request whose label is known. `inputs` is JSON; None = it was too large for the log."""

    time: datetime
    request_id: str
    row: int
    inputs: str | bytes | None
    label: str
    labelled_at: datetime


class LabelledRows(Part):
    """Reads what can be learnt from."""

    def count_labelled(
        self,
        tenant: str,
        model: str,
        day: date,
        known_by: datetime,
        *,
        until: datetime,
        since: datetime | None = None,
    ) -> tuple[int, int]:
        """Rows answered on a day of UTC, from `since` to before `until`, and those whose label was known by then."""
        with self.db.cursor() as cursor:
            cursor.execute(_STATEMENT_TIMEOUT)
            found = cursor.execute(_COUNT, _asked(tenant, model, day, known_by, until, since)).fetchone()
        return (int(found[0]), int(found[1])) if found else (0, 0)

    def labelled_rows(
        self,
        tenant: str,
        model: str,
        day: date,
        known_by: datetime,
        *,
        until: datetime,
        since: datetime | None = None,
    ) -> Iterator[list[LabelledRow]]:
        """The labelled ones of them in chunks, by time; never more than a chunk in memory."""
        with self.db.cursor() as plain:
            plain.execute(_STATEMENT_TIMEOUT)
            with plain.connection.cursor(name="labelled_rows") as cursor:
                cursor.execute(_ROWS, _asked(tenant, model, day, known_by, until, since))
                while chunk := cursor.fetchmany(CHUNK):
                    yield [LabelledRow(*row) for row in chunk]


def _asked(
    tenant: str, model: str, day: date, known_by: datetime, until: datetime, since: datetime | None
) -> dict[str, object]:
    start = datetime.combine(day, time(), UTC)
    end = min(until, start + timedelta(days=1))
    start = start if since is None else max(start, since)
    return {"tenant": tenant, "model": model, "start": start, "end": end, "known_by": known_by}

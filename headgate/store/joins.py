"""One transaction of the prediction log: rows in, labels joined, sums added."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
from psycopg import Cursor, sql
from psycopg.rows import TupleRow

from headgate.store.batches import Batch
from headgate.store.copying import copy_predictions
from headgate.store.rows import moment
from headgate.store.schema import HISTOGRAM_COLUMNS, ROLLUP_KEY, SUM_COLUMNS, labelled, rollups
from headgate.store.tally import LABEL_COLUMNS, Labelled, Tally

ROLLUP_LOCK = 7_302_003
"""Taken before labels are looked up and held to the commit: of a prediction and its outcome in two concurrent
transactions, the later one sees the other. It also keeps all writers of rollups in one order."""
_TYPES = {"TIMESTAMP": "timestamptz", "TEXT": "text", "INTEGER": "int4", "BIGINT": "int8", "BYTEA": "bytea"}
_TYPES |= {"DOUBLE": "float8", "DOUBLE PRECISION": "float8", "BOOLEAN": "bool", "JSONB": "jsonb"}

OutcomeKey = tuple[str, str, str, int]


def sql_type(column: Any) -> str:
    """PostgreSQL's name of a column's type."""
    return _TYPES[str(column.type).split(" WITH")[0]]


_ROLLUP_COLUMNS = (*ROLLUP_KEY, *SUM_COLUMNS, *HISTOGRAM_COLUMNS)
_UPSERT = sql.SQL(
    "INSERT INTO rollups ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT ({key}) DO UPDATE SET {added}"
).format(
    names=sql.SQL(", ").join(map(sql.Identifier, _ROLLUP_COLUMNS)),
    arrays=sql.SQL(", ").join(
        sql.SQL("%s::{}[]").format(sql.SQL(sql_type(rollups.columns[name]))) for name in _ROLLUP_COLUMNS
    ),
    key=sql.SQL(", ").join(map(sql.Identifier, ROLLUP_KEY)),
    added=sql.SQL(", ").join(
        [sql.SQL("{0} = rollups.{0} + excluded.{0}").format(sql.Identifier(name)) for name in SUM_COLUMNS]
        + [
            sql.SQL("{0} = rollups.{0} || excluded.{0}").format(sql.Identifier(name))
            for name in HISTOGRAM_COLUMNS
        ]
    ),
)

_LABELS = sql.SQL("INSERT INTO labelled ({names}) SELECT * FROM unnest({arrays})").format(
    names=sql.SQL(", ").join(map(sql.Identifier, LABEL_COLUMNS)),
    arrays=sql.SQL(", ").join(
        sql.SQL("%s::{}[]").format(sql.SQL(sql_type(labelled.columns[name]))) for name in LABEL_COLUMNS
    ),
)

_NEW_OUTCOMES = """
INSERT INTO outcomes (model, tenant, request_id, "row", label, at)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::int4[], %s::text[], %s::timestamptz[])
ON CONFLICT DO NOTHING RETURNING tenant, model, request_id, "row"
"""

# One JSON text goes over ten times as fast as an array; most rows have no label that came before them.
_LABELLED_EARLY = """
SELECT DISTINCT request_id FROM outcomes
WHERE tenant = %s AND model = %s AND request_id = ANY(ARRAY(SELECT json_array_elements_text(%s)))
"""

_JOIN = """
WITH known AS MATERIALIZED (
    SELECT o.* FROM (SELECT DISTINCT * FROM unnest(%(tenants)s::text[], %(models)s::text[],
        %(requests)s::text[], %(rows)s::int4[]) AS k (tenant, model, request_id, "row")) k
    JOIN outcomes o USING (tenant, model, request_id, "row")
), number AS MATERIALIZED (
    SELECT nextval('labelled_seq_seq') AS seq
)
UPDATE predictions p SET label = o.label, labelled_at = o.at, label_seq = number.seq FROM known o, number
WHERE p.tenant = o.tenant AND p.model = o.model AND p.request_id = o.request_id AND p."row" = o."row"
  AND p.label IS NULL AND p.time >= %(since)s AND p.time <= %(until)s
RETURNING p.request_id, p."row", p.tenant, p.model, p.version, p.arm, coalesce(p.rollout_id, ''),
  (extract(epoch FROM p.time) * 1000000)::bigint, p.prediction = p.label, p.champion_prediction = p.label, p.confidence,
  greatest(0, extract(epoch FROM p.labelled_at - p.time))::float8, p.reason
"""


def write_batch(cursor: Cursor[TupleRow], batch_id: str, batch: Batch, *, writer: str, bucket_s: int) -> bool:
    """Write one segment in the cursor's transaction; False when it was written before."""
    cursor.execute("INSERT INTO log_batches (id) VALUES (%s) ON CONFLICT DO NOTHING", [batch_id])
    if cursor.rowcount == 0:
        return False
    tally = Tally(bucket_s)
    columns = batch.columns
    if columns:
        copy_predictions(cursor, columns)
    new = _insert_outcomes(cursor, batch.outcomes)
    _lock(cursor)
    if columns:
        times = columns[0]
        _join(cursor, _labelled_early(cursor, columns), (moment(min(times)), moment(max(times))), tally)
        tally.add_predictions(columns)
    _join(cursor, new, _ALWAYS, tally)
    _add(cursor, tally, writer)
    return True


_ALWAYS = (
    datetime.fromisoformat("0001-01-01T00:00:00+00:00"),
    datetime.fromisoformat("9999-12-30T00:00:00+00:00"),
)


def write_outcomes(
    cursor: Cursor[TupleRow], outcomes: Sequence[Sequence[Any]], *, writer: str, bucket_s: int
) -> Mapping[OutcomeKey, bool]:
    """Write outcomes in the cursor's transaction; each new one's key -> whether it found a prediction."""
    tally = Tally(bucket_s)
    new = _insert_outcomes(cursor, outcomes)
    _lock(cursor)
    joined = _join(cursor, new, _ALWAYS, tally)
    _add(cursor, tally, writer)
    return {key: key in joined for key in new}


def add_rollups(cursor: Cursor[TupleRow], columns: Sequence[list[Any]]) -> None:
    """Add rows, given column by column, to the rollups; the caller holds `ROLLUP_LOCK`."""
    if columns[0]:
        cursor.execute(_UPSERT, list(columns))


def _add(cursor: Cursor[TupleRow], tally: Tally, writer: str) -> None:
    add_rollups(cursor, tally.columns(writer))
    labels = tally.label_columns()
    if labels[0]:
        cursor.execute(_LABELS, labels)


def _lock(cursor: Cursor[TupleRow]) -> None:
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ROLLUP_LOCK])


def _insert_outcomes(cursor: Cursor[TupleRow], outcomes: Sequence[Sequence[Any]]) -> list[OutcomeKey]:
    if not outcomes:
        return []
    columns = [list(column) for column in zip(*outcomes, strict=True)]
    columns[-1] = [moment(at) for at in columns[-1]]
    cursor.execute(_NEW_OUTCOMES, columns)
    return [(tenant, model, request_id, row) for tenant, model, request_id, row in cursor.fetchall()]


def _labelled_early(cursor: Cursor[TupleRow], columns: Sequence[Sequence[Any]]) -> list[OutcomeKey]:
    """Those of the rows whose requests have a label already."""
    asked: dict[tuple[str, str], list[str]] = {}
    for tenant, model, request_id in zip(*columns[1:4], strict=True):
        asked.setdefault((tenant, model), []).append(request_id)
    found: set[tuple[str, str, str]] = set()
    for (tenant, model), requests in asked.items():
        cursor.execute(_LABELLED_EARLY, [tenant, model, orjson.dumps(requests).decode()])
        found |= {(tenant, model, request_id) for (request_id,) in cursor}
    if not found:
        return []
    return [key for key in zip(*columns[1:5], strict=True) if key[:3] in found]


def _join(
    cursor: Cursor[TupleRow], keys: Sequence[OutcomeKey], times: tuple[datetime, datetime], tally: Tally
) -> set[OutcomeKey]:
    if not keys:
        return set()
    # The keys are few beside the tables they are looked up in; only an index lookup for each is right.
    cursor.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
    tenants, models, requests, rows = (list(column) for column in zip(*keys, strict=True))
    given = {"tenants": tenants, "models": models, "requests": requests, "rows": rows}
    cursor.execute(_JOIN, given | {"since": times[0], "until": times[1]}, prepare=False)
    joined: set[OutcomeKey] = set()
    for request_id, row, *arm, rollout_id, time_us, correct, beside, confidence, delay_s, reason in cursor:
        joined.add((arm[0], arm[1], request_id, row))
        # None: the version gave no answer that could be right or wrong.
        if correct is not None:
            names = (arm[0], arm[1], arm[2], arm[3])
            tally.add_label(
                Labelled(names, rollout_id, time_us, correct, beside, confidence, delay_s, reason)
            )
    return joined

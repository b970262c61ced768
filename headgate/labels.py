"""Answers worth labelling, out to a file; the labels somebody wrote into it, back in.

Back in they take the way of every outcome: each one once, joined to its prediction, counted in its bucket. A file that is
read twice changes nothing the second time.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import orjson

from headgate.core.rollout import Rollout
from headgate.errors import BadRequestError, HeadgateError
from headgate.store.joins import write_outcomes
from headgate.store.log import MAX_OUTCOMES
from headgate.store.outcomes import OutcomeReport, report
from headgate.store.rows import OutcomeRow, outcome_line

if TYPE_CHECKING:
    from headgate.services import Services

KEY = ("request_id", "row")
LABEL = "label"
FORMATS = (".csv", ".parquet")
WRITER = "label-queue"
"""Names these outcomes' sums among the writers of rollups."""
_TRUTH = {True: "true", False: "false"}


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of a file of answers.

    Attributes:
        joined, duplicate: rows whose label found its prediction; that were known already.
        unknown: ids of rows that no prediction has; their labels are kept, should it come yet.
        empty: rows without a label. bad: place and problem of rows that can't be used.
    """

    joined: int
    duplicate: int
    unknown: tuple[str, ...]
    empty: int
    bad: tuple[str, ...]


def write_queue(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the queue, most telling first, with an empty column `label` behind the key.

    Args:
        rows: as `store.label_queue` gives them. path: ends in `.csv` or `.parquet`.

    Raises:
        BadRequestError: another ending, or the file can't be written.
    """
    _check_format(path)
    table, names = _table(rows)
    try:
        _write_csv(table, names, path) if path.suffix == ".csv" else _write_parquet(table, names, path)
    except OSError as err:
        raise BadRequestError("out", str(path), f"be writable: {err.strerror or err}") from err


def queue_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The queue as CSV."""
    text = io.StringIO()
    _as_csv(*_table(rows), text)
    return text.getvalue()


def read_answers(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a CSV or Parquet file, each with its number, the first being 1.

    Raises:
        BadRequestError: it can't be read, or has no columns `request_id` and `label`.
    """
    _check_format(path)
    try:
        rows, names = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    except OSError as err:
        raise BadRequestError("answers", str(path), f"be readable: {err.strerror or err}") from err
    except (UnicodeDecodeError, csv.Error) as err:
        raise BadRequestError("answers", str(path), f"be CSV in UTF-8: {err}") from err
    missing = [name for name in ("request_id", LABEL) if name not in names]
    if missing:
        found = ", ".join(names)[:200] or "nothing"
        raise BadRequestError("answers", found, f"have the columns request_id and {LABEL}")
    return ((number, row) for number, row in enumerate(rows, 1))


def take_in(services: "Services", rollout: Rollout, path: Path, *, now: datetime | None = None) -> Answers:
    """Write the labels of a file as outcomes of the rollout's model.

    Raises:
        BadRequestError: the file can't be used at all; nothing was written.
        StoreUnavailableError: PostgreSQL can't be reached; read the file again later, nothing counts twice.
    """
    at = now or datetime.now(UTC)
    good, bad, empty = list[OutcomeRow](), list[str](), 0
    for number, row in read_answers(path):
        try:
            found = _outcome(row, rollout, at)
        except HeadgateError as err:
            bad.append(f"row {number}: {err}")
            continue
        if found is None:
            empty += 1
        else:
            good.append(found)
    joined, duplicate, unknown = 0, 0, list[str]()
    for start in range(0, len(good), MAX_OUTCOMES):
        part = good[start : start + MAX_OUTCOMES]
        told = _add(services, part)
        joined, duplicate = joined + told.joined, duplicate + told.duplicate
        unknown += [one.request_id for one, fate in zip(part, told.fates, strict=True) if fate == "waiting"]
    return Answers(joined, duplicate, tuple(unknown), empty, tuple(bad))


def _add(services: "Services", rows: Sequence[OutcomeRow]) -> OutcomeReport:
    """Write outcomes as the gateway's `POST /outcomes` does, in one transaction."""
    given = [orjson.loads(outcome_line(row))[1:] for row in rows]
    with services.store.db.cursor() as cursor:
        new = write_outcomes(cursor, given, writer=WRITER, bucket_s=services.store.bucket_s)
    return report(given, new)


def _outcome(row: Mapping[str, Any], rollout: Rollout, at: datetime) -> OutcomeRow | None:
    """The outcome a row tells; None when nobody has labelled it."""
    label = _text(row.get(LABEL))
    if label is None:
        return None
    number = _text(row.get("row"))
    try:
        place = int(float(number)) if number is not None else 0
    except (ValueError, OverflowError):
        raise BadRequestError("row", number, "be a whole number from 0 on") from None
    request_id = row.get("request_id")
    outcome = OutcomeRow(
        model=rollout.model,
        tenant=rollout.tenant,
        request_id="" if request_id is None else str(request_id),
        row=place,
        label=label,
        at=at,
    )
    outcome_line(outcome)  # Refuses what the log can't hold, while its row can still be named.
    return outcome


def _text(value: Any) -> str | None:
    """A cell's text; None for an empty one, NaN included."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return _TRUTH[value]
    return str(value).strip() or None


def _check_format(path: Path) -> None:
    if path.suffix not in FORMATS:
        raise BadRequestError("file", str(path), f"end in {' or '.join(FORMATS)}")


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with plain values: times as ISO 8601, objects as JSON; whatever label it has is the person's to write."""
    cells = {name: row.get(name) for name in KEY}
    for name, value in row.items():
        if name == LABEL:
            continue
        if isinstance(value, datetime):
            cells[name] = value.isoformat()
        elif isinstance(value, Mapping | list | tuple):
            cells[name] = json.dumps(value, ensure_ascii=False, default=str)
        else:
            cells[name] = value
    return cells


def _table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Plain cells, and the columns: the key, the label, whatever else there is."""
    table = [_cells(row) for row in rows]
    others = dict.fromkeys(name for row in table for name in row)
    return table, [*KEY, LABEL, *(name for name in others if name not in KEY)]


def _write_csv(table: Iterable[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        _as_csv(table, names, file)


def _as_csv(table: Iterable[Mapping[str, Any]], names: Sequence[str], file: TextIO) -> None:
    writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)


def _write_parquet(table: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: [row.get(name) for row in table] for name in names}
    arrays = {
        name: pa.array(values, pa.string()) if name in (LABEL, "request_id") else pa.array(values)
        for name, values in columns.items()
    }
    parquet.write_table(pa.table(arrays), path)


def _read_csv(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    # A spreadsheet saves with a byte-order mark, and in some countries with semicolons.
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=head.count)
        reader = csv.DictReader(file, delimiter=delimiter)
        return list(reader), list(reader.fieldnames or ())


def _read_parquet(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except pa.ArrowException as err:
        raise BadRequestError("answers", str(path), f"be Parquet: {err}") from err
    return table.to_pylist(), table.column_names

"""The two Parquet files of a cut, and what they hold, from the staged rows."""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import orjson

from headgate.core.stats.delays import quantile_s
from headgate.training.columns import Kind, arrow_type, by_name, fitted, kinds_of, label_kind, read_label
from headgate.training.signature import Signature
from headgate.training.staging import Chosen, Content, Staged, moment, per_day, read_staged

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 50_000
_SHOWN_LABELS = 100


class _Part:
    """One of the two files while it is written; rows wait as Arrow tables, which take a tenth of Python's room."""

    def __init__(self, path: Path, schema: "pa.Schema") -> None:
        import pyarrow.parquet as pq

        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema)
        self._waiting: list[pa.Table] = []
        self._content = Content()
        self._rows = self._first = self._last = 0
        self._days: Counter[date] = Counter()
        self._labels: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self._writer.close()

    def count(self, time_us: int, name: int, inputs: bytes, label: str) -> None:
        """Count a row that will be written."""
        self._content.add(time_us, name, inputs, label)
        self._first = min(self._first, time_us) if self._rows else time_us
        self._last = max(self._last, time_us)
        self._rows += 1
        self._days[moment(time_us).date()] += 1
        self._labels[label] += 1

    def write(self, rows: list[list[Any]]) -> None:
        """Write rows, in the schema's order of columns."""
        import pyarrow as pa

        if rows:
            columns = list(map(list, zip(*rows, strict=True)))
            self._waiting.append(pa.table(columns, schema=self._schema))
        if sum(table.num_rows for table in self._waiting) >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    def to_json(self) -> dict[str, Any]:
        """What it holds."""
        return {
            "rows": self._rows,
            "first": moment(self._first).isoformat(),
            "last": moment(self._last).isoformat(),
            "sha256": self._content.hexdigest(),
            "per_day": per_day(self._days),
            "labels": dict(self._labels.most_common(_SHOWN_LABELS)),
        }


def write_parts(
    paths: tuple[Path, Path], staged: Staged, chosen: Chosen, signature: Signature | None
) -> dict[str, Any]:
    """Write the files for training and for holdout; returns what the manifest says of them."""
    import pyarrow as pa

    seen = staged.kinds
    kinds = kinds_of(signature, seen) if signature is not None else dict(sorted(seen.kinds().items()))
    label, time = _free("label", kinds), _free("time", kinds)
    of_label = label_kind(staged.labels)
    schema = pa.schema(
        [(name, arrow_type(kind)) for name, kind in kinds.items()]
        + [(time, pa.timestamp("us", tz="UTC")), (label, arrow_type(of_label))]
    )
    unfit: Counter[str] = Counter()
    with _Part(paths[0], schema) as train, _Part(paths[1], schema) as holdout:
        for batch in read_staged(staged.path, chosen.keep):
            rows: dict[_Part, list[list[Any]]] = {train: [], holdout: []}
            for at, name, inputs, text in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                part = holdout if at >= chosen.holdout_from else train
                part.count(at, name, inputs, text)
                rows[part].append([*_values(inputs, kinds, unfit), at, read_label(text, of_label)])
            for part, given in rows.items():
                part.write(given)
    return {
        "columns": kinds,
        "label": label,
        "label_kind": of_label,
        "time": time,
        "train": train.to_json(),
        "holdout": holdout.to_json(),
        "sampled": chosen.sampled,
        "repeated_rows": staged.rows - int(chosen.keep.sum()) if chosen.sampled == 1 else None,
        "rows_without_inputs": staged.without_inputs,
        "values_of_another_kind": dict(unfit),
        "columns_left_out": [name for name in seen.names if name not in kinds],
        "columns_never_logged": [name for name in kinds if name not in seen.names],
        "label_delay_s": {"p50": quantile_s(staged.delays, 0.5), "p95": quantile_s(staged.delays, 0.95)},
    }


def _values(inputs: bytes, kinds: Mapping[str, Kind], unfit: Counter[str]) -> list[Any]:
    named = by_name(orjson.loads(inputs))
    values = []
    for name, kind in kinds.items():
        given = named.get(name)
        value = fitted(given, kind)
        if value is None and given is not None:
            unfit[name] += 1
        values.append(value)
    return values


def _free(name: str, taken: Mapping[str, Kind]) -> str:
    """The name, with as many `_` behind it as no input has."""
    while name in taken:
        name += "_"
    return name

"""A logged history in memory: every prediction once, with its label and the moment the label arrived."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headgate.backtest.columns import (
    MISSING,
    Codes,
    Micros,
    Small,
    Table,
    comparable,
    encode,
    factorise,
    open_table,
)
from headgate.core.spec import RolloutSpec
from headgate.errors import HistoryError

NEVER = np.iinfo(np.int64).max
"""Arrival of a label that never came."""


@dataclass(slots=True)
class History:
    """What the log holds, N predictions in order of time.

    Attributes:
        place: where it was read from.
        time_us: shape (N,), microseconds since 1970 UTC. request, version, key, prediction: codes of the ids.
        versions: names by code. keys: routing keys by code (the user, else the request).
        latency_ms, confidence: NaN where not given. error: index into `ERROR_CATEGORIES` or `MISSING`.
        cache: 1 hit, 0 miss, `MISSING`. label: code that equals the right prediction's, `MISSING` without a label.
        label_us: when the label arrived. segments: column -> (codes, values).
        notes: what a reader of the result has to know.
    """

    place: Path
    time_us: Micros
    request: Codes
    version: Codes
    versions: list[str]
    key: Codes
    keys: pa.Array
    prediction: Codes
    latency_ms: NDArray[np.float32]
    confidence: NDArray[np.float32]
    error: Small
    cache: Small
    label: Codes
    label_us: Micros
    segments: Mapping[str, tuple[Codes, list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.time_us)


def read_history(folder: Path, spec: RolloutSpec) -> History:
    """Read `predictions` and `outcomes` from a folder.

    Columns that only a disabled check reads may be absent.

    Raises:
        HistoryError: a file or column is missing, empty, of another type, or says two things.
    """
    if not folder.is_dir():
        problem = "is no folder" if folder.exists() else "does not exist"
        raise HistoryError(
            str(folder), problem, "name the folder with predictions.parquet and outcomes.parquet"
        )
    data = open_table(folder, "predictions")
    if data is None:
        fix = "write predictions.parquet, or a folder predictions/ of Parquet files"
        raise HistoryError(str(folder), "has no predictions", fix)
    table = Table(f"{folder}/predictions", data)
    if table.rows == 0:
        raise HistoryError(table.place, "is empty", "export at least one prediction of each version")
    policies, notes = spec.policies, list[str]()
    time_us = table.times()
    # Ids first: they are the largest, and go as soon as they are numbers.
    request, ids = encode(table.ids("request_id"))
    key, keys = _keys(table, request, ids, notes)
    version, versions = factorise(table.ids("version"))
    prediction, label, label_us = _outcomes(
        folder, table, request, ids, needed=policies.accuracy.enabled, notes=notes
    )
    del ids
    found = History(
        place=folder,
        time_us=time_us,
        request=request,
        version=version,
        versions=versions,
        key=key,
        keys=keys,
        prediction=prediction,
        latency_ms=_numbers(table, "latency_ms", "latency", enabled=policies.latency.enabled),
        confidence=_numbers(
            table, "confidence", "confidence_drift", enabled=policies.confidence_drift.enabled, most=1.0
        ),
        error=_failures(table, enabled=policies.error_rate.enabled or policies.throughput.enabled),
        cache=_cache(table, notes, enabled=policies.cache_performance.enabled),
        label=label,
        label_us=label_us,
        segments={
            name: factorise(table.texts(name, "the spec's segments name it"))
            for name in spec.segments.columns
        },
        notes=notes,
    )
    _refuse_duplicates(found, table.place)
    return found


def _keys(table: Table, request: Codes, ids: pa.Array, notes: list[str]) -> tuple[Codes, pa.Array]:
    """What requests are routed by: the user where there is one, else the request."""
    if not table.has("user_id"):
        notes.append("no column user_id: requests are assigned one by one, not by user")
        return request, ids
    users, names = encode(table.texts("user_id"))
    nobody = users == MISSING
    if not nobody.any():
        return users, names
    # Keys of requests without a user stand behind those of the users.
    lone, first = np.unique(request[nobody], return_inverse=True)
    keys = users.copy()
    keys[nobody] = len(names) + first
    texts = [pc.cast(part, pa.large_string()) for part in (names, ids.take(pa.array(lone)))]
    return keys, pa.concat_arrays(texts)


def _numbers(
    table: Table, column: str, check: str, *, enabled: bool, most: float = np.inf
) -> NDArray[np.float32]:
    if not enabled and not table.has(column):
        return np.full(table.rows, np.nan, dtype=np.float32)
    return table.numbers(column, _or_disable(check), most=most)


def _failures(table: Table, *, enabled: bool) -> Small:
    if not enabled and not table.has("error"):
        return np.full(table.rows, MISSING, dtype=np.int8)
    return table.failures()


def _cache(table: Table, notes: list[str], *, enabled: bool) -> Small:
    """Hits and misses; few logs have them, so a check without them is left out rather than waited for."""
    if not table.has("cache"):
        if enabled:
            notes.append("no column cache (hit, miss): check cache_performance is left out")
        return np.full(table.rows, MISSING, dtype=np.int8)
    codes, names = factorise(table.texts("cache"))
    known = [{"hit": 1, "miss": 0}.get(name, MISSING) for name in names]
    return np.array([*known, MISSING], dtype=np.int8)[codes]


def _or_disable(check: str) -> str:
    return f"check {check} reads it; or write overrides: {{{check}: {{enabled: false}}}}"


def _outcomes(
    folder: Path, predictions: Table, request: Codes, ids: pa.Array, *, needed: bool, notes: list[str]
) -> tuple[Codes, Codes, Micros]:
    """Predictions as codes, and each one's label and its arrival; of several labels the first counts."""
    data = open_table(folder, "outcomes")
    if data is None or data.count_rows() == 0:
        if needed:
            problem = "has no outcomes" if data is None else "has an empty outcomes table"
            raise HistoryError(str(folder), problem, f"add outcomes.parquet: {_or_disable('accuracy')}")
        codes, _ = encode(predictions.read("prediction"))
        return codes, np.full(len(codes), MISSING, np.int32), np.full(len(codes), NEVER)
    table = Table(f"{folder}/outcomes", data)
    codes, labels = comparable(predictions.place, predictions.read("prediction"), table.read("label"))
    arrived = table.times()
    names = table.ids("request_id")
    if names.type != ids.type:
        names = pc.cast(names, ids.type)
    place = pc.fill_null(pc.index_in(names, value_set=ids), MISSING).to_numpy().astype(np.int64)
    known = (place != MISSING) & (labels != MISSING)
    if not known.any():
        raise HistoryError(table.place, "labels no request of the predictions", "check the column request_id")
    place, labels, arrived = place[known], labels[known], arrived[known]
    order = np.argsort(arrived, kind="stable")[::-1]
    by_request = np.full(len(ids), MISSING, dtype=np.int32)
    at = np.full(len(ids), NEVER)
    # Written latest first, so that the first label stays.
    by_request[place[order]], at[place[order]] = labels[order], arrived[order]
    _tell_of_labels(notes, known, by_request)
    return codes, by_request[request], at[request]


def _tell_of_labels(notes: list[str], known: NDArray[np.bool_], by_request: Codes) -> None:
    lost = len(known) - int(known.sum())
    if lost:
        notes.append(f"{lost:,} outcomes are of no known request, or empty")
    again = int(known.sum()) - int((by_request != MISSING).sum())
    if again:
        notes.append(f"{again:,} outcomes label a request again; the first one counts, as in the log")


def _refuse_duplicates(history: History, place: str) -> None:
    codes = history.request.astype(np.int64) * len(history.versions) + history.version
    codes.sort()
    again = codes[1:][codes[1:] == codes[:-1]]
    if len(again):
        name = history.versions[int(again[0] % len(history.versions))]
        problem = f"has {len(again):,} rows again for the same request_id and version (first: one of version {name})"
        raise HistoryError(
            place, problem, "export every answer once; give each row of a batch its own request_id"
        )

"""Columns of a Parquet history as numpy arrays; what can't be used is refused by name, value and fix."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from headgate.core.evidence import ERROR_CATEGORIES
from headgate.errors import HistoryError

Codes = NDArray[np.int32]
Small = NDArray[np.int8]
Micros = NDArray[np.int64]
MISSING = -1
"""Code of a value that is not there."""


def open_table(folder: Path, name: str) -> ds.Dataset | None:
    """`name.parquet`, or the folder `name` of Parquet files; None when neither is there.

    Raises:
        HistoryError: it is there and can't be read.
    """
    places = [folder / f"{name}.parquet", folder / name]
    place = next((one for one in places if one.exists()), None)
    if place is None:
        return None
    try:
        return ds.dataset(place, format="parquet")
    except (pa.ArrowException, OSError) as err:
        raise HistoryError(str(place), f"can't be read as Parquet ({err!s:.200})", "write it anew") from err


class Table:
    """One table of the history, column by column."""

    def __init__(self, place: str, data: ds.Dataset) -> None:
        self.place = place
        self._data = data
        self.rows = int(data.count_rows())

    def has(self, column: str) -> bool:
        """True when there is such a column."""
        return column in self._data.schema.names

    def read(self, column: str, why: str = "every history needs it") -> pa.ChunkedArray:
        """One column.

        Raises:
            HistoryError: it is missing or can't be read.
        """
        names = self._data.schema.names
        if column not in names:
            raise HistoryError(
                self.place, f"has no column {column} (has {', '.join(names)})", f"add it: {why}"
            )
        try:
            values = self._data.to_table(columns=[column]).column(0)
        except (pa.ArrowException, OSError) as err:
            raise HistoryError(
                self.place, f"column {column} can't be read ({err!s:.200})", "write it anew"
            ) from err
        return pc.cast(values, values.type.value_type) if pa.types.is_dictionary(values.type) else values

    def times(self) -> Micros:
        """The column `time` in microseconds since 1970, UTC."""
        column = self.read("time")
        kind = column.type
        if not pa.types.is_timestamp(kind):
            self._refuse("time", f"is {kind}, not a timestamp", "write a timestamp with time zone UTC")
        if kind.tz is None:
            fix = 'say which zone it is in, e.g. df["time"].dt.tz_localize("UTC")'
            self._refuse("time", f"is {kind} without a time zone", fix)
        self._no_nulls("time", column)
        micros = pc.cast(pc.cast(column, pa.timestamp("us", tz="UTC"), safe=False), pa.int64())
        found: Micros = micros.to_numpy()
        return found

    def texts(self, column: str, why: str = "every history needs it") -> pa.ChunkedArray:
        """A column of ids or names, as text; whole numbers are taken as their digits."""
        values = self.read(column, why)
        kind = values.type
        if _is_text(kind):
            return values
        if pa.types.is_integer(kind) or pa.types.is_null(kind):
            return pc.cast(values, pa.string())
        return self._refuse(column, f"is {kind}, not text", "write text or whole numbers")

    def ids(self, column: str) -> pa.ChunkedArray:
        """As `texts`, and every row has one."""
        values = self.texts(column)
        self._no_nulls(column, values)
        return values

    def numbers(self, column: str, why: str, *, most: float = np.inf) -> NDArray[np.float32]:
        """A column of numbers from 0 to `most`, NaN where there is none."""
        values = self.read(column, why)
        if not (
            pa.types.is_floating(values.type)
            or pa.types.is_integer(values.type)
            or pa.types.is_null(values.type)
        ):
            self._refuse(column, f"is {values.type}, not a number", "write it as float64")
        found: NDArray[np.float32] = pc.fill_null(
            pc.cast(values, pa.float32(), safe=False), np.nan
        ).to_numpy()
        wrong = (found < 0) | (found > most) | np.isinf(found)
        if wrong.any():
            first = found[np.argmax(wrong)]
            bound = "at least 0" if np.isinf(most) else f"from 0 to {most:g}"
            self._refuse(
                column, f"has {int(wrong.sum())} values like {first:g}", f"must be finite and {bound}"
            )
        return found

    def failures(self) -> Small:
        """The column `error` as index into `ERROR_CATEGORIES`; `MISSING` where the request was answered."""
        values = self.read("error", "null where the request was answered")
        if pa.types.is_boolean(values.type):
            failed = pc.fill_null(values, False).to_numpy()
            return np.where(failed, ERROR_CATEGORIES.index("model"), MISSING).astype(np.int8)
        if pa.types.is_null(values.type):
            return np.full(len(values), MISSING, dtype=np.int8)
        if not _is_text(values.type):
            self._refuse("error", f"is {values.type}, not text", "write the category, or null when answered")
        codes, names = factorise(values)
        unknown = ERROR_CATEGORIES.index("model")
        table = [ERROR_CATEGORIES.index(name) if name in ERROR_CATEGORIES else unknown for name in names]
        table = [MISSING if name == "" else place for name, place in zip(names, table, strict=True)]
        return np.array([*table, MISSING], dtype=np.int8)[codes]

    def _no_nulls(self, column: str, values: pa.ChunkedArray) -> None:
        if values.null_count:
            row = int(np.argmax(pc.is_null(values).to_numpy()))
            self._refuse(
                column, f"is null in {values.null_count} rows (first: row {row})", "drop or fill them"
            )

    def _refuse(self, column: str, problem: str, fix: str) -> Any:
        raise HistoryError(self.place, f"column {column} {problem}", fix)


def factorise(values: pa.ChunkedArray) -> tuple[Codes, list[Any]]:
    """Codes 0, 1, … by distinct value, `MISSING` for null; and the values."""
    codes, dictionary = encode(values)
    return codes, dictionary.to_pylist()


def encode(values: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """As `factorise`, with the distinct values left in Arrow."""
    whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(whole, pa.ChunkedArray):  # More text than one array of 2 GiB holds.
        whole = pa.concat_arrays([pc.cast(chunk, pa.large_string()) for chunk in whole.chunks])
    encoded = whole.dictionary_encode()
    codes: Codes = pc.fill_null(encoded.indices, MISSING).to_numpy(zero_copy_only=False)
    return codes.astype(np.int32, copy=False), encoded.dictionary


def comparable(place: str, predictions: pa.ChunkedArray, labels: pa.ChunkedArray) -> tuple[Codes, Codes]:
    """Predictions and labels as codes that are equal where the two are; `MISSING` for null and NaN.

    Raises:
        HistoryError: the one is text and the other a fraction, so that none could ever be right.
    """
    kinds = (predictions.type, labels.type)
    if all(_is_number(kind) or pa.types.is_null(kind) for kind in kinds):
        both = [pc.cast(one, pa.float64(), safe=False) for one in (predictions, labels)]
        both = [pc.if_else(pc.is_nan(one), pa.scalar(None, pa.float64()), one) for one in both]
    elif all(_is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind) for kind in kinds):
        both = [pc.cast(one, pa.large_string()) for one in (predictions, labels)]
    else:
        problem = f"column prediction is {kinds[0]} and outcomes' column label is {kinds[1]}"
        raise HistoryError(place, problem, "write both as text, or both as numbers")
    codes, _ = encode(pa.chunked_array([*both[0].chunks, *both[1].chunks], type=both[0].type))
    return codes[: len(predictions)], codes[len(predictions) :]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))

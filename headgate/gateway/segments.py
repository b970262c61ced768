"""Which requests belong to a segment that was sent back to the champion."""

import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import Any

import pandas as pd
from mlflow.pyfunc import scoring_server

from headgate.answers import as_text
from headgate.gateway.protocol import Body


def is_excluded(body: Body, excluded: Mapping[str, frozenset[str]]) -> bool:
    """True when a row has an excluded value in an excluded column, or when that can't be told.

    Args:
        excluded: column -> values as their one text (`headgate.store.rows.same_text`).
    """
    try:
        columns = _read(body, list(excluded))
    except Exception:  # noqa: BLE001  whatever is wrong with a body, the champion's signature is to say it
        return True
    if columns is None:
        return True
    return any(as_text(value) in excluded[name] for name, values in columns.items() for value in values)


def _read(body: Body, names: list[str]) -> dict[str, Iterable[Any]] | None:
    """Each named column's values; None when the rows' columns have no names."""
    media = body.content_type.partition(";")[0].strip()
    if media == scoring_server.CONTENT_TYPE_JSON:
        return _from_json(json.loads(body.raw), names)
    read = pd.read_csv if media == scoring_server.CONTENT_TYPE_CSV else pd.read_parquet
    frame = read(BytesIO(body.raw))
    return {name: frame[name].tolist() for name in names if name in frame.columns}


def _from_json(content: dict[str, Any], names: list[str]) -> dict[str, Iterable[Any]] | None:
    if scoring_server.DF_SPLIT in content:
        split = content[scoring_server.DF_SPLIT]
        places = {name: split["columns"].index(name) for name in names if name in split["columns"]}
        return {name: [row[place] for row in split["data"]] for name, place in places.items()}
    for key in (scoring_server.DF_RECORDS, scoring_server.INSTANCES, scoring_server.INPUTS):
        if key in content:
            return _from_rows(content[key], names)
    return None


def _from_rows(rows: Any, names: list[str]) -> dict[str, Iterable[Any]] | None:
    if isinstance(rows, Mapping):
        found = {name: rows[name] for name in names if name in rows}
        return {name: values if isinstance(values, list) else [values] for name, values in found.items()}
    if not all(isinstance(row, Mapping) for row in rows):
        return None
    return {name: [row.get(name) for row in rows] for name in names}

"""What a journal segment holds: rows of predictions and outcomes, whichever kind of line they came in."""

from dataclasses import dataclass
from typing import Any

import orjson

from headgate.errors import BadRequestError
from headgate.store.requests import mirrored_rows, request_rows
from headgate.store.rows import OUTCOME_COLUMNS, PREDICTION_COLUMNS, json_text

_JSON = [PREDICTION_COLUMNS.index(name) for name in ("segment", "inputs")]


@dataclass(slots=True)
class Batch:
    """What one segment held, decoded.

    Attributes:
        predictions: values in `PREDICTION_COLUMNS` order, `time` as microseconds since 1970, `segment` and `inputs` as
            text of JSON.
        outcomes: values in `OUTCOME_COLUMNS` order, `at` likewise.
        dropped: lines that could not be read (the torn last line of a killed process).
    """

    predictions: list[list[Any]]
    outcomes: list[list[Any]]
    dropped: int = 0

    @property
    def columns(self) -> list[tuple[Any, ...]]:
        """The predictions column by column; empty when there are none."""
        return list(zip(*self.predictions, strict=True))


def decode(data: bytes) -> Batch:
    """Read a segment; a line that can't be read is dropped and counted, never the others."""
    batch = Batch([], [])
    lines = data.split(b"\n")
    torn = lines.pop()
    batch.dropped += bool(torn)
    for line in lines:
        try:
            if line.startswith(b'["r"'):
                batch.predictions += request_rows(line)
            elif line.startswith(b'["s"'):
                batch.predictions += mirrored_rows(line)
            else:
                _add_row(batch, line)
        except (ValueError, TypeError, BadRequestError):
            batch.dropped += 1
    return batch


def _add_row(batch: Batch, line: bytes) -> None:
    kind, *values = orjson.loads(line)
    if kind == "p" and len(values) == len(PREDICTION_COLUMNS) and isinstance(values[0], int):
        for index in _JSON:
            values[index] = json_text(values[index])
        batch.predictions.append(values)
    elif kind == "o" and len(values) == len(OUTCOME_COLUMNS):
        batch.outcomes.append(values)
    else:
        raise ValueError(kind)

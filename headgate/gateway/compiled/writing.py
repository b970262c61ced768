"""A model's answer to bytes and to what the log says of it: as MLflow writes it and `answers.read_answers` reads it."""

from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

import numpy as np

from headgate.answers import read_answers
from headgate.gateway.protocol import encode

_NEARLY_ONE = 5e-4
"""How far a row's sum may be from 1 to be surely read as probabilities (`read_answers` allows twice that)."""


class Written(NamedTuple):
    """An answer, ready to be sent.

    Attributes:
        body: the bytes that MLflow's scoring server would send.
        predictions: one JSON scalar per row; its `answers.as_text` is the row's logged prediction.
        confidences: one per row, 0-1 or None; None = none at all.
    """

    body: bytes
    predictions: list[Any]
    confidences: list[float | None] | None


def write(native: Any) -> Written:
    """Write what a model returned.

    Raises:
        TypeError, ValueError: it is nothing that JSON can carry.
    """
    if isinstance(native, np.ndarray) and type(native) is np.ndarray:
        if native.ndim == 1 and native.dtype.kind in "fiubUO":
            written = _write_values(native.tolist())
        elif native.ndim == 2 and native.dtype.kind == "f" and native.shape[1] > 1:
            written = _write_shares(native)
        else:
            written = None
        if written is not None:
            return written
    return _write_any(native)


def _write_any(native: Any) -> Written:
    """MLflow's encoder and the general reader."""
    rows = read_answers(native)
    confidences = [row.confidence for row in rows]
    known = any(confidence is not None for confidence in confidences)
    body = encode(native, unwrapped=False)
    return Written(body, [row.prediction for row in rows], confidences if known else None)


def _write_values(values: list[Any]) -> Written | None:
    texts = []
    for value in values:
        kind = type(value)
        if kind is float:
            if value - value != 0.0:
                return None
            texts.append(float.__repr__(value))
        elif kind is int:
            texts.append(int.__repr__(value))
        elif kind is str:
            texts.append(encode_basestring_ascii(value))
        elif kind is bool:
            texts.append("true" if value else "false")
        else:
            return None
    return Written(_envelope(texts), values, None)


def _write_shares(native: "np.ndarray[Any, Any]") -> Written | None:
    """Probabilities, row by row."""
    rows = native.tolist()
    for row in rows:
        if not (min(row) >= 0.0 and max(row) <= 1.0 and abs(sum(row) - 1.0) <= _NEARLY_ONE):
            return None
    best = [max(row) for row in rows]
    labels = [row.index(top) for row, top in zip(rows, best, strict=True)]
    return Written(_envelope([f"[{', '.join(map(repr, row))}]" for row in rows]), labels, best)


def _envelope(texts: list[str]) -> bytes:
    return f'{{"predictions": [{", ".join(texts)}]}}'.encode("ascii")

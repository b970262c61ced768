"""A state as bytes, and back. It is written for every rollout at every sweep, so it is compact and quick, in that order.

Layout: 3 bytes of mark and version, 4 bytes with the length of the header, the header as JSON (numbers, names, times), then
the arrays one after the other. Rows that are one number throughout (a gate that has seen nothing bad yet) are that number.
Vectors are stored as they are: deflating them saves a tenth and costs more than everything else in a sweep.
"""

import json
import struct
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headgate.core.guard.state import Clusters, GuardState, Vectors
from headgate.core.stats.odds import GRID

_MARK = b"HG\x01"
_LENGTH = struct.Struct("<I")
_SCALARS = (
    "pairs",
    "shadowed",
    "label_seq",
    "looks",
    "spent",
    "alone",
    "pace",
    "latency_cuts",
    "confidence_cuts",
    "open_requests",
)
_TIMES = ("counted_until", "started", "weights_since", "clusters_since", "clusters_at")
_TUPLES = ("gates", "pairs", "pace", "latency_cuts", "confidence_cuts", "open_requests")
_TABLES = ("counts", "excess", "compared", "served", "open")
_HISTOGRAMS = ("delay_hist", "latency_seen", "confidence_seen")


def state_to_bytes(state: GuardState) -> bytes:
    """The whole state; `state_from_bytes` gives it back exactly."""
    header: dict[str, Any] = {name: getattr(state, name) for name in _SCALARS}
    header["gates"] = state.gates
    header |= {name: None if (at := getattr(state, name)) is None else at.isoformat() for name in _TIMES}
    header["deff"] = dict(state.deff)
    if state.clusters is not None:
        one = state.clusters
        header["clusters"] = [list(one.keys), one.both, one.weight_percent, dict(one.deff), one.estimate]
    parts: list[bytes] = []
    for name in _TABLES:
        table = getattr(state, name)
        header[name] = bool(table.any())
        parts.append(table.astype("<f8").tobytes() if header[name] else b"")
    for name in _HISTOGRAMS:
        hist = getattr(state, name)
        header[name] = None if hist is None else len(hist) if hist.any() else -len(hist)
        parts.append(hist.astype("<i8").tobytes() if hist is not None and header[name] > 0 else b"")
    for name in ("ll", "restart"):
        header[name], data = _packed(getattr(state, name))
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_MARK, _LENGTH.pack(len(text)), text, *parts))


def state_from_bytes(data: bytes) -> GuardState:
    """The state that `state_to_bytes` wrote.

    Raises:
        ValueError: the bytes are no state, or one of another version, or cut short.
    """
    if data[: len(_MARK)] != _MARK:
        raise ValueError(f"a state begins with {bytes(data[:3])!r}, must begin with {_MARK!r}")
    try:
        start = len(_MARK) + _LENGTH.size
        (length,) = _LENGTH.unpack(data[len(_MARK) : start])
        header = json.loads(data[start : start + length])
        return _read(header, _Reader(data, start + length))
    except (struct.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a state of {len(data)} bytes can't be read: {error}") from error


class _Reader:
    """Arrays, one after the other."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place

    def take(self, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
        size = int(np.prod(shape))
        array = np.frombuffer(self._data, dtype=kind, count=size, offset=self._place)
        self._place += array.nbytes
        return array.reshape(shape).astype(array.dtype.newbyteorder("="))


def _read(header: dict[str, Any], reader: _Reader) -> GuardState:
    values: dict[str, Any] = {name: header[name] for name in (*_SCALARS, "gates", "deff")}
    values |= {name: tuple(values[name]) for name in _TUPLES}
    values |= {
        name: None if header[name] is None else datetime.fromisoformat(header[name]) for name in _TIMES
    }
    if "clusters" in header:
        keys, both, weight, deff, estimate = header["clusters"]
        known = tuple(estimate) if estimate is not None else None
        values["clusters"] = Clusters((keys[0], keys[1]), both, weight, deff, known)
    gates = len(values["gates"])
    for name in _TABLES:
        shape = (gates, 4) if name in ("counts", "open") else (gates,)
        values[name] = reader.take("<f8", shape) if header[name] else np.zeros(shape)
    for name in _HISTOGRAMS:
        bins = header[name]
        if bins is None:
            values[name] = None
        else:
            values[name] = reader.take("<i8", (bins,)) if bins > 0 else np.zeros(-bins, dtype=np.int64)
    for name in ("ll", "restart"):
        values[name] = _unpacked(header[name], gates, reader)
    return GuardState(**values)


def _packed(vectors: Vectors) -> tuple[dict[str, Any], bytes]:
    """The numbers in column 0, which rows differ from it in both halves and which in the upper one, and these rows."""
    same = vectors == vectors[:, :1]
    whole, upper = ~same[:, :_HALF].all(axis=1), ~same[:, _HALF:].all(axis=1)
    upper &= ~whole
    data = vectors[whole].astype("<f4").tobytes() + vectors[upper, _HALF:].astype("<f4").tobytes()
    marks = {
        "first": vectors[:, 0].astype(np.float64).tolist(),
        "whole": np.flatnonzero(whole).tolist(),
        "upper": np.flatnonzero(upper).tolist(),
    }
    return marks, data


_HALF = len(GRID) // 2


def _unpacked(marks: dict[str, Any], gates: int, reader: _Reader) -> Vectors:
    vectors = np.empty((gates, len(GRID)), dtype=np.float32)
    vectors[:] = np.asarray(marks["first"], dtype=np.float32).reshape(gates, 1)
    whole, upper = marks["whole"], marks["upper"]
    vectors[whole] = reader.take("<f4", (len(whole), len(GRID)))
    vectors[upper, _HALF:] = reader.take("<f4", (len(upper), len(GRID) - _HALF))
    return vectors

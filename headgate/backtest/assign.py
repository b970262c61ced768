"""Where every request's key falls, for one seed."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headgate.backtest.columns import Codes
from headgate.core.routing.buckets import bucket

MAX_EXACT_KEYS = 1_000_000
"""Distinct keys up to which the gateway's own hash is used; it costs about a microsecond a key."""
_GOLDEN, _FIRST, _SECOND = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)


def positions(codes: Codes, keys: pa.Array, salt: str) -> NDArray[np.float32]:
    """Position in [0, 100) of each request, by the code of its routing key.

    Up to `MAX_EXACT_KEYS` keys fall exactly where the gateway would put them with this salt. Beyond that their codes
    are mixed instead, which is as even and as independent of the salt, but puts other users first.

    References:
        Steele, Lea & Flood 2014, OOPSLA, p. 453-472 (SplitMix64's finaliser).
    """
    if len(keys) <= MAX_EXACT_KEYS:
        table = np.array([bucket(key, salt) for key in keys.to_pylist()], dtype=np.float32)
        return np.minimum(table, np.nextafter(np.float32(100), np.float32(0)))[codes]
    seed = np.uint64(int.from_bytes(blake2b(salt.encode(), digest_size=8).digest(), "big"))
    mixed = (np.arange(len(keys), dtype=np.uint64) + np.uint64(1)) * _GOLDEN + seed
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    mixed ^= mixed >> np.uint64(31)
    # 24 bits fit a float32 exactly, so none is rounded up to 100.
    return ((mixed >> np.uint64(40)).astype(np.float32) * np.float32(100 / 2**24))[codes]

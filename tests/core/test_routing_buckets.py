"""Buckets: stable, even, independent between rollouts; the chain of keys."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.core.routing.buckets import bucket, routing_key

PINNED = 13.214629925758835
KEYS = [f"user-{number}" for number in range(100_000)]


@given(st.text(), st.text())
def test_a_bucket_is_in_the_half_open_range(key: str, salt: str) -> None:
    assert 0.0 <= bucket(key, salt) < 100.0


def test_a_key_has_one_bucket_in_every_process() -> None:
    """RT-01: across processes and restarts; the values are pinned, so a release can't move users."""
    code = "from headgate.core.routing.buckets import bucket; print(repr(bucket('user-1', 'digits-v3-1')))"
    seen = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }

    assert seen == {f"{bucket('user-1', 'digits-v3-1')!r}\n"}
    assert bucket("user-1", "digits-v3-1") == pytest.approx(PINNED, abs=1e-12)


def test_buckets_are_uniform() -> None:
    found = np.sort([bucket(key, "salt") for key in KEYS]) / 100.0

    assert stats.kstest(found, "uniform").pvalue > 1e-6


def test_two_salts_are_independent() -> None:
    """A user who was early in one rollout is not early in the next."""
    first, second = (np.array([bucket(key, salt) for key in KEYS[:20_000]]) for salt in ("a", "b"))
    correlation = float(np.corrcoef(first, second)[0, 1])

    # Under independence the correlation is normal with deviation 1 / sqrt(n).
    assert abs(correlation) < stats.norm.isf(5e-7) / np.sqrt(20_000)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (("u", "e", "r"), ("u", "user_id")),
        ((None, "e", "r"), ("e", "entity_id")),
        ((None, None, "r"), ("r", "request_id")),
        (("", "", "r"), ("r", "request_id")),
    ],
    ids=["user-first", "then-entity", "then-request", "empty-is-absent"],
)
def test_the_first_id_that_is_given_is_the_key(
    ids: tuple[str | None, ...], expected: tuple[str, str]
) -> None:
    """RT-01, RT-02, C1."""
    assert routing_key(*ids, b"body") == expected


def test_without_ids_the_same_payload_has_the_same_key() -> None:
    """RT-03."""
    key, kind = routing_key(None, None, None, b'{"x":1}')

    assert kind == "payload"
    assert routing_key(None, None, None, b'{"x":1}') == (key, kind)
    assert routing_key(None, None, None, b'{"x":2}')[0] != key

"""The split: shares, stickiness, who is live, the tag's text, the documents' weights."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from headgate.core.routing.split import (
    Assignment,
    Reason,
    Split,
    assign,
    check_weights,
    decode_split,
    encode_split,
    hold_frozen,
    without,
)

KEYS = [f"user-{number}" for number in range(100_000)]
STEPS = (5.0, 10.0, 25.0, 50.0, 100.0)
CHANCE = 1e-6


def challenged(weight: float, keys: list[str], salt: str = "digits-v2-1") -> set[str]:
    split = Split("digits-v2-1", {"2": weight}, salt=salt)
    return {key for key in keys if assign(split, "1", {"2"}, key).version == "2"}


def test_shares_are_within_binomial_error_and_a_key_once_in_stays_in() -> None:
    """RT-02, RT-05, RT-10, RT-11: 100,000 keys at every step of the ramp."""
    before: set[str] = set()
    for weight in STEPS:
        inside = challenged(weight, KEYS)
        low = stats.binom.ppf(CHANCE / 2, len(KEYS), weight / 100)
        high = stats.binom.isf(CHANCE / 2, len(KEYS), weight / 100)

        assert low <= len(inside) <= high
        assert abs(len(inside) / len(KEYS) - weight / 100) < 0.02
        assert before <= inside
        before = inside


def test_thirty_percent_of_a_hundred_requests_is_about_thirty() -> None:
    """RT-10."""
    inside = len(challenged(30.0, [f"request-{number}" for number in range(100)]))

    assert stats.binom.ppf(CHANCE / 2, 100, 0.3) <= inside <= stats.binom.isf(CHANCE / 2, 100, 0.3)


@given(st.floats(0, 100), st.floats(0, 100), st.text(min_size=1))
def test_a_growing_weight_never_sends_a_key_back(first: float, second: float, key: str) -> None:
    """RT-11."""
    low, high = sorted((first, second))
    if assign(Split(weights={"2": low}, salt="s"), "1", {"2"}, key).version == "2":
        assert assign(Split(weights={"2": high}, salt="s"), "1", {"2"}, key).version == "2"


@given(st.floats(0, 50), st.floats(0, 50), st.floats(0, 50), st.text(min_size=1))
def test_two_challengers_can_grow_without_taking_each_others_keys(
    first: float, second: float, more: float, key: str
) -> None:
    """RT-06, RT-11: the first grows from below, the second from above."""
    small = Split(weights={"2": first, "3": second}, salt="s")
    grown = Split(weights={"2": max(first, more), "3": max(second, more)}, salt="s")
    before = assign(small, "1", {"2", "3"}, key).version

    if before != "1":
        assert assign(grown, "1", {"2", "3"}, key).version == before


def test_three_challengers_get_their_shares() -> None:
    """RT-06."""
    split = Split(weights={"2": 15.0, "3": 15.0, "4": 10.0}, salt="s")
    found = [assign(split, "1", {"2", "3", "4"}, key) for key in KEYS]
    counts = Counter(item.version for item in found)

    for version, weight in {"1": 60, "2": 15, "3": 15, "4": 10}.items():
        low, high = (
            quantile(CHANCE / 2, len(KEYS), weight / 100) for quantile in (stats.binom.ppf, stats.binom.isf)
        )
        assert low <= counts[version] <= high
    arms = {item.version: item.arm for item in found}
    assert arms == {"1": "champion", "2": "challenger", "3": "challenger-2", "4": "challenger-3"}


@given(st.text(min_size=1), st.floats(0, 100))
def test_a_version_that_is_not_live_gets_nothing(key: str, weight: float) -> None:
    """RT-12: deleting the alias is the emergency stop."""
    found = assign(Split(weights={"2": weight}, salt="s"), "1", set(), key)

    assert found == Assignment("1", "champion", Reason.CHAMPION_ONLY)


@given(st.text(min_size=1), st.floats(0, 50), st.floats(0, 50))
def test_cutting_one_challenger_sends_its_keys_to_the_champion_and_moves_no_other(
    key: str, first: float, second: float
) -> None:
    split = Split(weights={"2": first, "3": second}, salt="s")
    before = assign(split, "1", {"2", "3"}, key).version

    for after in (
        assign(without(split, "2"), "1", {"2", "3"}, key).version,
        assign(split, "1", {"3"}, key).version,
    ):
        assert after == ("1" if before == "2" else before)


def test_the_champion_can_not_be_its_own_challenger() -> None:
    """While a promotion is under way the tag may still name the new champion."""
    assert assign(Split(weights={"2": 100.0}), "2", {"2"}, "k") == Assignment(
        "2", "champion", Reason.CHAMPION_ONLY
    )


def test_all_traffic_can_go_to_the_challenger() -> None:
    assert len(challenged(100.0, KEYS[:1000])) == 1000


def test_no_weight_grows_while_frozen() -> None:
    """RT-16."""
    before = Split("r", {"2": 10.0}, frozen=True, revision=4)

    assert hold_frozen(before, Split("r", {"2": 25.0}, frozen=True, revision=5)).weights == {"2": 10.0}
    assert hold_frozen(before, Split("r", {"2": 5.0}, frozen=True, revision=5)).weights == {"2": 5.0}
    assert hold_frozen(before, Split("r", {"2": 25.0}, revision=6)).weights == {"2": 25.0}
    assert hold_frozen(before, Split("next", {"3": 5.0}, frozen=True)).weights == {"3": 5.0}


splits = st.builds(
    Split,
    rollout_id=st.none() | st.text(min_size=1, max_size=20),
    weights=st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0, 6.25), max_size=16),
    frozen=st.booleans(),
    salt=st.text(max_size=20),
    revision=st.integers(0, 2**40),
)


@given(splits)
def test_what_is_encoded_is_read_back(split: Split) -> None:
    read = decode_split(encode_split(split))

    assert read == split
    assert list(read.weights) == list(split.weights)


def test_a_split_that_does_not_fit_the_tag_is_not_written() -> None:
    with pytest.raises(ValueError, match="characters are more than"):
        encode_split(Split(salt="x" * 5000))


GOOD = {"revision": 1, "rollout_id": "r", "weights": {"2": 5.0}, "frozen": False, "salt": "r"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[]",
        "null",
        "{",
        '{"weights": {"2": 5}}',
        json.dumps(GOOD | {"extra": 1}),
        json.dumps(GOOD | {"weights": {"2": -1}}),
        json.dumps(GOOD | {"weights": {"2": 101}}),
        json.dumps(GOOD | {"weights": {"2": 60, "3": 41}}),
        json.dumps(GOOD | {"weights": {"2": float("nan")}}),
        json.dumps(GOOD | {"weights": {"2": float("inf")}}),
        json.dumps(GOOD).replace("5.0", "1e999"),
        json.dumps(GOOD).replace("5.0", "1" + "0" * 400),
        json.dumps(GOOD | {"weights": {"2": "5"}}),
        json.dumps(GOOD | {"weights": {"2": True}}),
        json.dumps(GOOD | {"weights": {"2": None}}),
        json.dumps(GOOD | {"weights": {"": 5}}),
        json.dumps(GOOD | {"weights": []}),
        json.dumps(GOOD | {"weights": {str(number): 1 for number in range(17)}}),
        json.dumps(GOOD | {"revision": -1}),
        json.dumps(GOOD | {"revision": 1.5}),
        json.dumps(GOOD | {"revision": True}),
        json.dumps(GOOD | {"rollout_id": ""}),
        json.dumps(GOOD | {"rollout_id": 3}),
        json.dumps(GOOD | {"frozen": "yes"}),
        json.dumps(GOOD | {"salt": None}),
        json.dumps(GOOD).replace('"2": 5.0', '"2": 5.0, "2": 50.0'),
        json.dumps(GOOD | {"salt": "x" * 5000}),
        "[" * 3999,
    ],
)
def test_a_tag_that_is_not_exactly_a_split_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_split(text)


def test_weights_that_do_not_sum_are_refused_in_the_documents_words() -> None:
    """RT-07."""
    with pytest.raises(ValueError, match=r"^Traffic weights must sum to 1\.0, got 0\.95$"):
        check_weights({"v1.0.0": 0.8, "v1.1.0": 0.15})


@pytest.mark.parametrize(
    "weights",
    [
        {"v1": 0.8, "v2": 0.2},
        {"v1": 0.7, "v2": 0.15, "v3": 0.15},
        {"v1": 0.1, "v2": 0.2, "v3": 0.7},
        {"v1": 1.0},
        {"v1": 1, "v2": 0},
    ],
    ids=["two", "three", "float-dust", "full-rollout", "whole-numbers"],
)
def test_weights_that_sum_become_percents(weights: dict[str, float]) -> None:
    """RT-06, RT-08."""
    assert check_weights(weights) == pytest.approx(
        {version: share * 100 for version, share in weights.items()}
    )


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True, None], ids=str)
def test_a_weight_outside_zero_to_one_is_refused(weight: object) -> None:
    """RT-04, RT-06."""
    with pytest.raises(ValueError, match=r"must be between 0.0 and 1.0"):
        check_weights({"v1": 0.5, "v2": weight})  # type: ignore[dict-item]


def test_the_tolerance_of_the_sum_is_as_documented() -> None:
    assert check_weights({"v1": 0.5, "v2": 0.4999995})
    with pytest.raises(ValueError, match=r"must sum to 1.0"):
        check_weights({"v1": 0.5, "v2": 0.49999})
    with pytest.raises(ValueError, match=r"must sum to 1.0, got 0"):
        check_weights({})

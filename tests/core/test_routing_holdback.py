"""The hold-back: who was with the old champion stays there while the new one is watched."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.routing.buckets import bucket
from headgate.core.routing.split import (
    MAX_TAG_CHARS,
    Assignment,
    Reason,
    Split,
    assign,
    decode_split,
    encode_split,
    hold_frozen,
    without,
)

KEYS = [f"user-{number}" for number in range(20_000)]
KEPT = next(key for key in KEYS if bucket(key, "r") >= 96)
MOVED = next(key for key in KEYS if bucket(key, "r") < 5)
WATCHED = Split("r", {}, salt="r", holdback={"1": 5.0})


def life(steps: list[float], held: float) -> Iterator[tuple[Split, str, set[str], str | None]]:
    """Split, champion, live challengers and hold-back alias, write by write, as the registry shows them."""
    split = Split("r", salt="r")
    for weight in steps:
        split = replace(split, weights={"2": min(weight, 100.0 - held)})
        yield split, "1", {"2"}, None
    yield split, "1", {"2"}, "1"
    bridge = replace(split, holdback={"1": held} if held else {})
    yield bridge, "1", {"2"}, "1"
    yield bridge, "2", {"2"}, "1"
    watched = replace(bridge, weights={})
    yield watched, "2", {"2"}, "1"
    yield watched, "2", set(), "1"
    yield replace(watched, holdback={}), "2", set(), "1"
    yield replace(watched, holdback={}), "2", set(), None


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=6).map(sorted),
    st.floats(0, 50),
    st.text(min_size=1),
)
def test_no_key_goes_back_and_forth_in_the_whole_life_of_a_rollout(
    steps: list[float], held: float, key: str
) -> None:
    """RT-11: through every write of the ramp, the promotion, the watch and its end."""
    seen = [assign(*state[:3], key, state[3]).version for state in life([*steps, 100.0], held)]

    assert "".join(seen) == "1" * seen.count("1") + "2" * seen.count("2")
    assert seen[-1] == "2"


def test_whom_the_challenger_never_reached_is_held_back_and_nobody_else() -> None:
    states = list(life([5.0, 10.0, 25.0, 50.0, 100.0], 5.0))
    for key in KEYS:
        seen = [assign(*state[:3], key, state[3]).version for state in states]
        reached_at_the_end = bucket(key, "r") >= 95

        # Ten states before the hold-back ends, two after.
        assert seen[4:10] == (["1"] * 6 if reached_at_the_end else ["2"] * 6)


def test_the_hold_back_is_an_arm_of_its_own() -> None:
    assert assign(WATCHED, "2", set(), KEPT, "1") == Assignment("1", "holdback", Reason.HOLDBACK)
    assert assign(WATCHED, "2", set(), MOVED, "1") == Assignment("2", "champion", Reason.SPLIT)


@pytest.mark.parametrize("alias", [None, "7"], ids=["deleted", "on-another-version"])
def test_without_its_alias_the_hold_back_gets_nothing(alias: str | None) -> None:
    """RT-12: deleting the alias is the emergency stop."""
    assert assign(WATCHED, "2", set(), KEPT, alias) == Assignment("2", "champion", Reason.CHAMPION_ONLY)


def test_a_champion_that_is_back_is_not_its_own_hold_back() -> None:
    assert assign(WATCHED, "1", set(), KEPT, "1") == Assignment("1", "champion", Reason.CHAMPION_ONLY)


def test_cutting_a_version_does_not_touch_the_hold_back() -> None:
    assert without(WATCHED, "2").holdback == {"1": 5.0}
    assert without(WATCHED, "1").holdback == {"1": 5.0}


def test_while_frozen_no_hold_back_shrinks_and_no_excluded_value_comes_in() -> None:
    """RT-16."""
    before = Split("r", {"2": 10.0}, True, "r", 1, {"1": 5.0}, {"country": ("DE", "FR")})
    after = Split("r", {"2": 10.0}, True, "r", 2, {}, {"country": ("FR", "IT"), "tier": ("free",)})
    held = hold_frozen(before, after)

    assert held.holdback == {"1": 5.0}
    assert held.excluded == {"country": ("DE", "FR", "IT"), "tier": ("free",)}
    assert hold_frozen(before, replace(after, frozen=False)) == replace(after, frozen=False)


texts = st.text(min_size=1, max_size=8)


@given(
    st.dictionaries(texts, st.floats(0, 50), max_size=1),
    st.dictionaries(texts, st.lists(texts, min_size=1, max_size=4).map(tuple), max_size=4),
)
def test_hold_back_and_excluded_values_are_read_back(
    holdback: dict[str, float], excluded: dict[str, tuple[str, ...]]
) -> None:
    split = Split("r", {"2": 50.0}, salt="s", holdback=holdback, excluded=excluded)

    assert decode_split(encode_split(split)) == split


def test_a_tag_without_hold_back_is_written_and_read_as_before() -> None:
    old = '{"revision":1,"rollout_id":"r","weights":{"2":5.0},"frozen":false,"salt":"r"}'

    assert encode_split(decode_split(old)) == old
    assert decode_split(old) == Split("r", {"2": 5.0}, False, "r", 1)


def test_too_many_excluded_values_are_refused_and_named() -> None:
    many = {"zip": tuple(str(number) for number in range(10_000, 11_000))}
    with pytest.raises(
        ValueError, match=r"^1000 excluded values of zip make 80\d\d characters, more than 4000: exclude"
    ):
        encode_split(Split("r", excluded=many))
    few = {"zip": many["zip"][:480]}

    assert len(encode_split(Split("r", excluded=few))) < MAX_TAG_CHARS


GOOD = {"revision": 1, "rollout_id": "r", "weights": {"2": 50.0}, "frozen": False, "salt": "r"}


@pytest.mark.parametrize(
    "more",
    [
        {"holdback": {"1": -1}},
        {"holdback": {"1": float("nan")}},
        {"holdback": {"1": 51}},
        {"holdback": {"1": 5, "3": 5}},
        {"holdback": None},
        {"holdback": 5},
        {"excluded": []},
        {"excluded": {"x": []}},
        {"excluded": {"x": "DE"}},
        {"excluded": {"x": [3]}},
        {"excluded": {"": ["DE"]}},
        {"excluded": None},
        {"keep": 5},
    ],
    ids=json.dumps,
)
def test_a_tag_with_a_bad_hold_back_or_exclusion_is_refused(more: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode_split(json.dumps(GOOD | more))

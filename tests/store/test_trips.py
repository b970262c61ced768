"""A gateway that cut a challenger off by itself tells everybody, once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest

from headgate.core.rollout import Phase, Trip
from headgate.errors import NotFoundError
from headgate.store import Store
from tests.store.making import NOON, a_result, a_rollout

Query = Callable[..., list[Any]]
CHANNELS = ("headgate_split", "headgate_nudge")
TRIP = Trip(NOON, 18, 6, 4.7, "gw-1")


def test_a_trip_cuts_every_gateway_and_wakes_the_sweep_in_one_transaction(store: Store) -> None:
    rollout = store.create(a_result(a_rollout()), actor="anna")
    store.listen(CHANNELS, 0.01)
    told = store.report_trip(rollout.id, "3", TRIP)
    heard = []
    while len(heard) < 2:
        heard += store.listen(CHANNELS, 5)

    assert told
    assert heard[0][0] == "headgate_split"
    assert orjson.loads(heard[0][1]) == {
        "tenant": "default",
        "model": "digits",
        "version": "3",
        "rollout_id": rollout.id,
        "weight": 0,
    }
    assert heard[1] == ("headgate_nudge", rollout.id)
    assert store.read_trips([rollout]) == {rollout.id: TRIP}


def test_the_same_gateway_tells_it_once_and_the_first_counts(store: Store, query: Query) -> None:
    rollout = store.create(a_result(a_rollout()), actor="anna")
    later = NOON + timedelta(seconds=3)
    told = [
        store.report_trip(rollout.id, "3", replace(TRIP, at=later)),
        store.report_trip(rollout.id, "3", replace(TRIP, at=NOON + timedelta(seconds=9), requests=99)),
        store.report_trip(rollout.id, "3", replace(TRIP, gateway="gw-2")),
    ]

    assert told == [True, False, True]
    assert store.read_trips([rollout])[rollout.id].gateway == "gw-2"
    assert query("SELECT count(*) FROM trips") == [(2,)]


def test_only_this_rollouts_own_challenger_counts(store: Store) -> None:
    rollout = store.create(a_result(a_rollout()), actor="anna")
    store.report_trip(rollout.id, "2", TRIP)
    store.report_trip(rollout.id, "3", replace(TRIP, at=rollout.created_at - timedelta(seconds=1)))

    assert store.read_trips([rollout]) == {}
    assert store.read_trips([]) == {}


def test_a_trip_stays_readable_while_it_is_rolled_back(store: Store) -> None:
    rollout = store.create(a_result(a_rollout()), actor="anna")
    store.report_trip(rollout.id, "3", TRIP)

    assert store.read_trips([replace(rollout, phase=Phase.ROLLING_BACK)]) == {rollout.id: TRIP}


def test_a_trip_of_an_unknown_rollout_is_refused(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.report_trip("nothing", "3", TRIP)

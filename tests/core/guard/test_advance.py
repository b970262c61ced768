"""What one look adds to the sequential tests."""

from dataclasses import fields, replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from headgate.core.evidence import Sums
from headgate.core.guard.advance import advance
from headgate.core.guard.cuts import MIN_HISTORY
from headgate.core.guard.state import GuardState, LabelBlocks
from headgate.core.policies import AccuracyPolicy, CachePolicy, LatencyPolicy, Policies
from headgate.core.stats.odds import NULL, increments
from headgate.core.stats.sequential import log_harm
from tests.core.guard.guard_world import START, Traffic, advanced, arm, at, labels, look, row

BUCKETS = 30
COUNTS = np.random.default_rng(3).integers(0, 60, (2, BUCKETS))
ERRORS = np.random.default_rng(4).binomial(COUNTS, 0.1)
LABELS = np.random.default_rng(5).integers(30, 60, (BUCKETS, 2))


def _part(first: int, after: int, seq: int | None = None, **more: Any) -> Any:
    """Buckets first .. after - 1 of one fixed world, with a label row a bucket."""
    part = slice(first, after)
    return look(
        arm(COUNTS[0, part], ERRORS[0, part]),
        arm(COUNTS[1, part], ERRORS[1, part]),
        first=first,
        seq=after if seq is None else seq,
        labels=LabelBlocks(LABELS[part], LABELS[part] - 2, np.full(after - first, 60.0)),
        **more,
    )


def _same(one: GuardState, other: GuardState) -> None:
    for item in fields(one):
        mine, theirs = getattr(one, item.name), getattr(other, item.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs, err_msg=item.name)
        else:
            assert mine == theirs, item.name


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, BUCKETS - 1), st.integers(1, BUCKETS)), min_size=1, max_size=8))
def test_a_bucket_is_never_counted_twice(windows: list[tuple[int, int]]) -> None:
    """Whatever overlapping stretches are read, in whatever order, each bucket and each label number counts once."""
    state, until = GuardState(), 0
    counted = np.zeros((2, BUCKETS), dtype=bool)
    for first, length in windows:
        after = min(BUCKETS, first + length)
        counted[:, max(first, until) : after] = True
        # The store reads labels above the state's number only, so a look brings all of its rows or none.
        state = advanced(state, replace(_part(first, after), labels=LabelBlocks()))
        until = max(until, after)
    total = row(state, "error_rate")
    seen = state.counts[total] + state.open[total]

    assert seen.tolist() == [
        ERRORS[0][counted[0]].sum(),
        COUNTS[0][counted[0]].sum(),
        ERRORS[1][counted[1]].sum(),
        COUNTS[1][counted[1]].sum(),
    ]


def test_labels_up_to_the_counted_number_are_never_counted_again() -> None:
    once = advanced(GuardState(), _part(0, 10))
    again = advanced(
        once, replace(_part(10, 20, seq=10), challenger=arm(np.zeros(10)), champion=arm(np.zeros(10)))
    )

    accuracy = row(once, "accuracy")
    assert once.counts[accuracy, 1] > 0
    np.testing.assert_array_equal(again.counts[accuracy], once.counts[accuracy])
    np.testing.assert_array_equal(again.ll[accuracy], once.ll[accuracy])
    np.testing.assert_array_equal(again.delay_hist, once.delay_hist)
    assert again.label_seq == 10


def test_a_bucket_given_twice_in_one_look_counts_once() -> None:
    new = _part(0, 3)
    doubled = replace(
        new,
        starts=np.repeat(new.starts, 2),
        challenger=arm(np.repeat(COUNTS[0, :3], 2), np.repeat(ERRORS[0, :3], 2)),
        champion=arm(np.repeat(COUNTS[1, :3], 2), np.repeat(ERRORS[1, :3], 2)),
    )

    _same(advanced(GuardState(), doubled), advanced(GuardState(), new))


def test_a_bucket_that_is_not_closed_yet_is_left_for_later() -> None:
    state = advanced(GuardState(), look(arm([50, 50, 50]), arm([50, 50, 50]), until=2))

    assert state.counts[row(state, "error_rate"), 1] == 100
    assert state.counted_until == at(20)


def test_the_given_states_stay_as_they_are() -> None:
    before = advanced(GuardState(), _part(0, 10))
    copies = {
        item.name: getattr(before, item.name).copy()
        for item in fields(before)
        if isinstance(getattr(before, item.name), np.ndarray)
    }
    advanced(before, _part(10, 20))

    for name, copy in copies.items():
        np.testing.assert_array_equal(getattr(before, name), copy, err_msg=name)


def test_the_evidence_of_looks_adds_up_to_that_of_the_whole() -> None:
    """However the buckets come in, the same blocks give the same vector."""
    large = [[4_000] * 6, [40] * 6, [4_000] * 6, [25] * 6]
    counts = np.asarray(large, dtype=np.float64)

    def some(first: int, after: int) -> Any:
        part = slice(first, after)
        return look(arm(counts[0, part], counts[1, part]), arm(counts[2, part], counts[3, part]), first=first)

    whole = advanced(GuardState(), some(0, 6))
    parts = advanced(GuardState(), some(0, 3), some(3, 6))
    total = row(whole, "error_rate")

    # Blocks are half a minute long: three buckets each.
    expected = 2 * increments([120], [12_000], [75], [12_000])[0]
    np.testing.assert_allclose(whole.ll[total], expected, rtol=1e-6)
    np.testing.assert_allclose(parts.ll[total], expected, rtol=1e-6)
    np.testing.assert_array_equal(whole.counts, parts.counts)
    np.testing.assert_allclose(whole.excess, parts.excess)


def test_a_fleet_advances_as_each_rollout_alone() -> None:
    some = Policies()
    other = Policies(cache_performance=CachePolicy(enabled=True), accuracy=AccuracyPolicy(enabled=False))
    policies = [some, other, some, other, some]
    news = [
        _part(0, 12),
        _part(0, 3),
        look(arm([]), arm([])),
        Traffic(1).look(0),
        Traffic(2).look(0, rate=3.0),
    ]
    past = [Traffic(9).past()] * 5
    states = [GuardState()] * 5
    for _ in range(2):
        together = advance(states, news, policies, past)
        for one, state, new, policy in zip(together, states, news, policies, strict=True):
            _same(one, advanced(state, new, policies=policy, past=past[0]))
        states = together
        news = [_part(12, 20), _part(3, 30), _part(0, 5), Traffic(3).look(1), Traffic(4).look(1, rate=3.0)]


@pytest.mark.parametrize(
    ("challenger", "champion"),
    [
        (arm([0, 0]), arm([500, 500], 20)),
        (arm([500, 500], 20), arm([0, 0])),
        (arm([500, 500]), arm([500, 500])),
        (arm([500, 500], 500), arm([500, 500], 500)),
        (arm([np.nan, np.inf], [np.nan, 3]), arm([500, 500], 20)),
        (arm([-5, -5], -1), arm([500, 500], 20)),
    ],
    ids=["no challenger", "no champion", "nothing bad", "all bad", "no numbers", "negative"],
)
def test_what_can_not_be_compared_adds_nothing(challenger: Any, champion: Any) -> None:
    state = advanced(GuardState(), look(challenger, champion))

    assert not state.ll.any()
    assert np.isfinite(state.restart).all()
    assert np.isfinite(state.counts).all()
    assert (log_harm(state.restart) <= 0).all()


def test_more_bad_samples_than_samples_are_all_bad() -> None:
    state = advanced(GuardState(), look(arm([50], 70, fallbacks=90), arm([50], 5)))

    for gate in ("error_rate", "throughput"):
        assert state.counts[row(state, gate)].tolist() == [50, 50, 5, 50]


def test_ten_million_counts_neither_overflow_nor_underflow() -> None:
    """Issue 3, must be shown 3."""
    n = 10_000_000
    state = advanced(
        GuardState(), look(arm([n], n // 100), arm([n], n // 101)), look(arm([n]), arm([n], n), first=1)
    )

    assert np.isfinite(state.ll).all()
    assert np.isfinite(state.restart).all()


def test_evidence_is_not_lost_where_requests_are_rare() -> None:
    """Two requests a bucket, one on each arm: blocks of forty keep 39 parts in 40 of the evidence."""
    rng = np.random.default_rng(7)
    bad = rng.binomial(1, [0.4, 0.1], (1_200, 2))
    state = GuardState()
    for first in range(0, 1_200, 3):
        part = bad[first : first + 3]
        ones = np.ones(len(part))
        state = advanced(state, look(arm(ones, part[:, 0]), arm(ones, part[:, 1]), first=first))
    total = row(state, "error_rate")
    whole = increments([bad[:, 0].sum()], [1_200], [bad[:, 1].sum()], [1_200])[0]

    assert state.ll[total].max() > 0.93 * whole.max()
    assert state.counts[total, 1] + state.open[total, 1] == 1_200


def test_a_change_of_the_weights_ends_a_block() -> None:
    """Pooled over the change, a healthy challenger looks three times as bad (Simpson)."""
    own, other = arm([1, 10], [0, 3]), arm([25, 20], [0, 6])
    since = {"weights_since": at(10)}
    apart = advanced(GuardState(weights_since=START), look(own, other, **since))
    pooled = advanced(GuardState(), look(own, other))
    total = row(apart, "error_rate")

    assert apart.excess[total] == 0
    assert apart.counts[total].tolist() == [0, 1, 0, 25]
    assert apart.open[total].tolist() == [3, 10, 6, 20]
    assert pooled.excess[total] > 0


def test_labels_from_before_and_after_a_change_of_the_weights_stay_apart() -> None:
    rows = LabelBlocks(np.array([[2, 30], [15, 15]]), np.array([[2, 30], [5, 5]]), np.array([900.0, 5.0]))
    new = look(arm([100]), arm([100]), labels=rows, seq=1, weights_since=at(0))
    state = advanced(GuardState(), new)

    assert state.excess[row(state, "accuracy")] == 0


def test_a_changed_share_is_noticed_where_nobody_tells_of_it() -> None:
    state = advanced(GuardState(), look(arm([10, 100], [1, 30]), arm([190, 100], [19, 30])))

    assert abs(state.excess[row(state, "error_rate")]) < 1e-9


def test_thresholds_come_from_the_past_and_stay() -> None:
    traffic = Traffic(1)
    state = advanced(GuardState(), traffic.look(0), past=traffic.past())
    first = (state.latency_cuts, state.confidence_cuts)
    slow = advanced(state, traffic.look(1, slower=50.0), past=Traffic(5).past(700))

    assert len(first[0]) == 6
    assert (slow.latency_cuts, slow.confidence_cuts) == first
    p95 = state.counts[row(state, "latency.p95")]
    assert p95[2] / p95[3] == pytest.approx(0.05, abs=0.02)


def test_without_a_past_thresholds_come_from_what_was_counted_before_them() -> None:
    """The buckets that are counted now never choose the thresholds that count them."""
    traffic = Traffic(2)
    first = advanced(GuardState(), traffic.look(0, rate=300.0))
    assert first.latency_cuts == ()
    assert first.latency_seen is not None
    assert first.latency_seen.sum() > MIN_HISTORY
    assert not first.counts[row(first, "latency.p50")].any()
    second = advanced(first, traffic.look(1, slower=3.0))
    other = advanced(first, traffic.look(1, slower=9.0))

    assert second.latency_cuts == other.latency_cuts != ()
    assert second.latency_seen is None
    assert second.counts[row(second, "latency.p50"), 1] > 0


def test_thresholds_that_the_champion_has_outlived_are_taken_anew() -> None:
    """Thresholds of a past that is over would count all answers alike, for ever."""
    traffic, state = Traffic(4), GuardState()
    for number in range(12):
        state = advanced(
            state, traffic.look(number, weight=0.5), past=Sums(latency_hist=traffic.slow(2_000, 0.05))
        )
    place = row(state, "latency.p50")

    assert state.counts[place, 2] / state.counts[place, 3] == pytest.approx(0.5, abs=0.1)
    assert state.counts[row(state, "error_rate"), 1] > state.counts[place, 1] > 500
    assert abs(state.excess[place]) < 100


def test_a_champion_half_again_as_slow_is_just_beyond_the_margin() -> None:
    """The gate of the margin compares the challenger with a champion slowed down by it."""
    traffic = Traffic(3)
    state = GuardState()
    for number in range(60):
        state = advanced(state, traffic.look(number, weight=0.5, slower=1.5), past=traffic.past())

    for name in ("p50", "p90", "p95"):
        place = row(state, f"latency.shift.{name}")
        assert state.excess[place] / state.compared[place] == pytest.approx(0.0, abs=0.015), name


def test_a_design_effect_divides_the_evidence() -> None:
    new = look(arm([500], 60), arm([500], 30))
    plain = advanced(GuardState(), new)
    divided = advanced(GuardState(deff={"errors": 2.0, "wrong": 5.0}), new)
    total = row(plain, "error_rate")

    np.testing.assert_allclose(divided.ll[total], plain.ll[total] / 2, rtol=1e-6)
    np.testing.assert_array_equal(divided.counts, plain.counts)


@pytest.mark.parametrize("deff", [0.1, 0.0, -3.0, float("nan"), float("inf")])
def test_a_design_effect_never_adds_evidence(deff: float) -> None:
    new = look(arm([500], 60), arm([500], 30))

    np.testing.assert_array_equal(
        advanced(GuardState(deff={"errors": deff}), new).ll, advanced(GuardState(), new).ll
    )


def test_a_disabled_check_has_no_gates_and_one_enabled_later_begins_at_nothing() -> None:
    without = Policies(latency=LatencyPolicy(enabled=False))
    before = advanced(GuardState(), _part(0, 20), policies=without)
    after = advanced(before, _part(20, 21), policies=Policies())

    assert not any(name.startswith("latency") for name in before.gates)
    place = row(after, "latency.p95")
    assert not after.ll[place].any()
    assert float(log_harm(after.restart[place].astype(np.float64))) <= 1e-6
    assert after.counts[row(after, "error_rate"), 1] >= before.counts[row(before, "error_rate"), 1]


def test_the_challenger_is_alone_from_the_champions_last_request_on() -> None:
    beside = advanced(GuardState(), look(arm([50, 60]), arm([3, 0])))
    alone = advanced(beside, look(arm([70, 80]), arm([0, 0]), first=2))
    again = advanced(alone, look(arm([70]), arm([1]), first=4))

    assert (beside.alone, alone.alone, again.alone) == (60, 210, 0)


def test_mirrored_answers_cost_nobody_anything() -> None:
    shadow = advanced(GuardState(), look(arm([500], 60), arm([500], 30), mirrored=True))
    live = advanced(shadow, look(arm([100], 1), arm([900], 9), first=1))
    total = row(live, "error_rate")

    assert shadow.served[total] == 0
    assert live.served[total] == 100
    assert live.counts[total, 1] == 100


def test_errors_in_shadow_may_show_harm_but_never_that_there_is_none() -> None:
    """What the champion can't answer is not mirrored: its own failures are beside nothing of the challenger's."""
    fails = advanced(GuardState(), look(arm([500], 60), arm([500], 5), mirrored=True))
    shines = advanced(GuardState(), look(arm([500], 0), arm([500], 60), mirrored=True))
    total = row(fails, "error_rate")

    assert log_harm(fails.restart[total].astype(float)) > 10
    assert not shines.ll[total].any()
    assert not shines.counts[total].any()


def test_odds_ratio_one_never_gains_evidence() -> None:
    state = GuardState()
    for number in range(20):
        state = advanced(state, Traffic(number).look(number, error_rate=(0.1, 0.01)))

    assert not state.ll[:, NULL].any()
    assert (state.restart[:, NULL] <= 1e-6).all()


def test_pairs_add_and_are_marked_when_they_came_first() -> None:
    shadow = advanced(GuardState(), look(arm([10]), arm([10]), pairs=(3, 4, 50), seq=1))
    later = advanced(
        shadow, look(arm([90]), arm([90]), first=1, pairs=(1, 1, 1), seq=2, labels=labels((30, 20, 30, 25)))
    )
    late = advanced(
        GuardState(), look(arm([90]), arm([90]), labels=labels((30, 20, 30, 25)), seq=1, pairs=(1, 1, 1))
    )

    assert (later.pairs, later.shadowed) == ((4, 5, 51), True)
    assert late.shadowed is False


@pytest.mark.parametrize("check", ["error_rate", "throughput"])
def test_a_design_effect_that_is_not_known_yet_is_the_largest_known_one(check: str) -> None:
    """The first request of a hundred rows that fails is one failure, though no failure told so before."""
    new = look(arm([500], 60), arm([500], 30))
    plain = advanced(GuardState(), new)
    divided = advanced(GuardState(deff={"slow": 4.0, "unsure": 3.0}), new)

    np.testing.assert_allclose(divided.ll[row(plain, check)], plain.ll[row(plain, check)] / 4, rtol=1e-6)

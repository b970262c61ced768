"""The replay: the engine of production over logged rows, nothing counted twice, nothing known too early."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from headgate.backtest import replay as replaying
from headgate.backtest.arena import Arena, moment
from headgate.backtest.assign import positions
from headgate.backtest.history import read_history
from headgate.backtest.inject import Injection, stages
from headgate.backtest.replay import interval_of, replay
from headgate.backtest.report import as_json
from headgate.backtest.trial import Trial, prepare
from headgate.core import engine
from headgate.core.evidence import ERROR_CATEGORIES
from headgate.core.routing.buckets import bucket
from headgate.core.spec import RolloutSpec
from headgate.errors import BadRequestError
from tests.backtest.histories import BEGIN, Plan, Version, write

STEPS = [
    {"setWeight": 10, "pause": {"duration": "30m"}},
    {"setWeight": 50, "pause": {"duration": "30m"}},
    {"setWeight": 100, "pause": {"duration": "30m"}},
]
SHADOW = {"duration": "30m", "minSamples": 300, "minAgreement": 0.6, "warnAgreement": 0.7}
OVERRIDES = {"latency": {"latency_sample_size_minimum": 50}, "accuracy": {"accuracy_threshold": 0.8}}


def a_spec(**changes: object) -> RolloutSpec:
    given = {
        "model": "m",
        "shadow": SHADOW,
        "steps": STEPS,
        "watch": {"duration": "30m"},
        "overrides": OVERRIDES,
    }
    return RolloutSpec.model_validate(given | {"analysis": {"interval": "1m"}} | changes)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Two equal versions, 8 h, 30,000 requests."""
    folder = tmp_path_factory.mktemp("alike")
    write(folder, (Version("1"), Version("2")), Plan(30_000, 8, users=6_000))
    return prepare(read_history(folder, a_spec()), "1", "2")


def test_an_equal_challenger_is_promoted_step_by_step(alike: Trial) -> None:
    """BT: outcome, decided_by, at, exposure, steps with weights, checks with both modes."""
    told = as_json(replay(alike, a_spec()))

    assert told["outcome"] == "promoted"
    assert told["decided_by"] == "watched"
    assert [step["weight"] for step in told["steps"]] == [0, 10, 50, 100, 100]
    assert [step["decision"] for step in told["steps"]] == [
        "advance",
        "advance",
        "advance",
        "promote",
        "advance",
    ]
    assert told["exposed_requests"] == sum(step["requests"] for step in told["steps"][1:])
    assert told["shadow_requests"] == told["steps"][0]["requests"]
    accuracy = told["checks"]["accuracy"]
    assert accuracy["literal"]["outcome"] == accuracy["guarded"]["outcome"] == "pass"
    assert accuracy["standing"]["shown_not_worse"]
    assert accuracy["standing"]["n_challenger"] > 1000


def test_a_crash_in_a_step_is_taken_back(alike: Trial) -> None:
    run = replay(alike, a_spec(), injections=[Injection.parse("error=+30%@step2")])

    assert run.outcome == "rolled_back"
    assert run.decided_by == "automatic_confirmed_harm"
    assert "error_rate" in run.reason
    assert run.fault_at is not None
    assert run.stages[-1].weight == 50
    assert 0 < run.fault_exposed < 400
    assert run.at - run.fault_at < timedelta(minutes=20)


def test_a_challenger_that_is_wrong_in_shadow_meets_no_user(alike: Trial) -> None:
    run = replay(alike, a_spec(), injections=[Injection.parse("accuracy=-20pp")])

    assert run.outcome == "rejected_in_shadow"
    assert run.exposed == 0
    assert run.shadowed > 0


def test_slow_answers_are_found(alike: Trial) -> None:
    run = replay(alike, a_spec(shadow=None), injections=[Injection.parse("latency=x4")])

    assert run.outcome == "rolled_back"
    assert "latency" in run.reason


def test_the_same_rollout_in_literal_mode(alike: Trial) -> None:
    run = replay(alike, a_spec(decision="literal"))
    check = as_json(run)["checks"]["error_rate"]

    assert check["literal"]["outcome"] == check["verdict"]
    assert check["guarded"] is not None
    assert check["standing"]["log_e_needed"] > 0


def test_looks_judged_together_decide_as_looks_judged_one_by_one(
    alike: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was served and counted beyond a change of the order is taken back without a trace."""
    faults = [Injection.parse("error=+8%@step2")]
    together = [as_json(replay(alike, a_spec(), injections=some)) for some in ((), faults)]
    monkeypatch.setattr(replaying, "MAX_AT_ONCE", 1)
    alone = [as_json(replay(alike, a_spec(), injections=some)) for some in ((), faults)]

    for one, other in zip(together, alone, strict=True):
        assert one["steps"] == other["steps"]
        for name, check in one["checks"].items():
            assert check["literal"] == other["checks"][name]["literal"]
            for number in ("log_e", "log_ni", "n_challenger", "n_champion", "difference"):
                same = other["checks"][name]["standing"][number]
                assert check["standing"][number] == (None if same is None else pytest.approx(same, rel=1e-9))


def test_a_rewound_arena_is_as_if_nothing_had_happened(alike: Trial) -> None:
    spec = a_spec(shadow=None)
    places = positions(alike.champion.users, alike.keys, "salt")
    rollout = engine.start(
        spec, id="r", challenger="2", champion="1", actor="t", now=moment(alike.begin_s)
    ).rollout
    arenas = [Arena(alike, [(0, alike.challenger.rows)], places) for _ in range(2)]
    for arena in arenas:
        arena.serve(rollout, 300)
        arena.label(alike.begin_s + 3000)
    mark = arenas[0].mark()
    arenas[0].serve(rollout, 500)
    arenas[0].label(alike.begin_s + 5000)
    arenas[0].rewind(mark)

    for one, other in zip(arenas[0].ledgers(), arenas[1].ledgers(), strict=True):
        np.testing.assert_allclose(one.sums, other.sums, atol=1e-9)
        np.testing.assert_array_equal(one.served, other.served)


def test_every_row_is_counted_once_and_labels_only_once_they_arrived(alike: Trial) -> None:
    arena = Arena(alike, [(0, alike.challenger.rows)], None)
    arena.serve(None, len(alike.starts))
    halfway = (alike.begin_s + alike.end_s) / 2
    arena.label(halfway)
    early, _ = arena.champion.window("all", 0.0, len(alike.starts))
    arena.label(float("inf"))
    late, _ = arena.champion.window("again", 0.0, len(alike.starts))
    rows = alike.champion.rows

    assert early.requests == late.requests == len(rows)
    assert early.outcomes == int((alike.champion.labels.visible_s <= halfway).sum()) - int(
        (rows.right[alike.champion.labels.row[alike.champion.labels.visible_s <= halfway]] < 0).sum()
    )
    assert late.correct == int((rows.right == 1).sum())
    assert late.latency_hist.sum() == late.latency_n == int((rows.error < 0).sum())


def test_keys_fall_where_the_gateway_puts_them(alike: Trial) -> None:
    found = positions(alike.champion.users, alike.keys, "a-salt")
    names = alike.keys.to_pylist()
    expected = [bucket(names[code], "a-salt") for code in alike.champion.users[:200]]

    np.testing.assert_allclose(found[:200], expected, rtol=1e-6)


def test_more_keys_than_can_be_hashed_are_still_spread_evenly(
    alike: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.backtest.assign.MAX_EXACT_KEYS", 10)
    one, other = (positions(alike.champion.users, alike.keys, salt) for salt in ("a", "b"))
    codes, first = np.unique(alike.champion.users, return_index=True)

    assert 0 <= one.min() < one.max() < 100
    assert abs((one[first] < 10).mean() - 0.1) < 0.02
    assert abs(np.corrcoef(one[first], other[first])[0, 1]) < 0.05
    assert len(codes) > 5000


def test_a_split_log_is_replayed_as_it_was_split(tmp_path: Path) -> None:
    """The shares are the log's; the weights are in name only, and it is said."""
    write(tmp_path, (Version("1"), Version("2", error=0.3)), Plan(20_000, 6, both_arms=False, share=0.2))
    trial = prepare(read_history(tmp_path, a_spec()), "1", "2")
    run = replay(trial, a_spec())

    assert run.outcome == "rolled_back"
    assert "error" in run.reason
    assert any("in name only" in note for note in run.notes)


def test_approvals_and_open_pauses_are_agreed_to_at_once(alike: Trial) -> None:
    steps = [{"setWeight": 10, "pause": {}}, {"setWeight": 50, "pause": {"duration": "30m"}, "approval": {}}]
    run = replay(alike, a_spec(shadow=None, steps=[*steps, {"setWeight": 100, "pause": {"duration": "30m"}}]))

    assert run.outcome == "promoted"
    assert "10 % was promoted at once" in run.notes
    assert "leaving 50 % was approved at once" in run.notes


def test_a_history_that_ends_too_early_says_what_is_waited_for(alike: Trial) -> None:
    run = replay(alike, a_spec(watch={"duration": "7d"}))

    assert run.outcome == "held"
    assert run.promoted_at is not None
    assert "soak" in run.reason


def test_a_long_history_is_looked_at_less_often(alike: Trial) -> None:
    spec = a_spec(analysis={"interval": "10s"})

    assert interval_of(alike, spec) == 10
    assert interval_of(alike, spec, max_looks=100) == pytest.approx(290, abs=5)
    assert replay(alike, spec, max_looks=100).looks <= 100


def test_a_slice_that_fails_alone_is_named_and_sent_back(tmp_path: Path) -> None:
    """Segments: a column of the history that the spec names."""
    folder = write(tmp_path, (Version("1"), Version("2")), Plan(40_000, 8, users=8_000))
    spec = a_spec(segments={"columns": ["country"], "onSegment": "rollback"}, shadow=None)
    trial = prepare(read_history(folder, spec), "1", "2")
    rows, names = trial.challenger.rows, trial.segments["country"][2]
    few = trial.champion.users % 40 == 0
    trial.segments = {"country": (*[np.where(few, names.index("ch"), names.index("de"))] * 2, names)}
    hit = few & (rows.error < 0) & (np.arange(len(rows)) % 2 == 0)
    rows.error[hit] = ERROR_CATEGORIES.index("model")
    rows.right[hit] = rows.prediction[hit] = -1
    run = replay(trial, spec, seed=1)

    assert any("sent back to the champion: country=ch" in stage.reason for stage in run.stages)


@pytest.mark.parametrize(
    ("text", "kind", "amount", "step"),
    [
        ("error=+1%", "error", 0.01, 0),
        ("latency=x1.2@step3", "latency", 1.2, 3),
        ("accuracy=-5pp@step2", "accuracy", 0.05, 2),
    ],
)
def test_faults_are_read_as_they_are_written(text: str, kind: str, amount: float, step: int) -> None:
    fault = Injection.parse(text)
    assert (fault.kind, fault.step) == (kind, step)
    assert fault.amount == pytest.approx(amount)


@pytest.mark.parametrize("text", ["error=1%", "latency=+5%", "accuracy=-500pp", "error=+0%", "speed=x2", ""])
def test_a_fault_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match="--inject"):
        Injection.parse(text)


def test_faults_hit_as_many_rows_as_they_say(alike: Trial) -> None:
    rows = alike.challenger.rows
    (begins, plain), (step, changed) = stages(rows, [Injection.parse("accuracy=-10pp@step2")], seed=3)
    known = rows.right >= 0

    assert (begins, step) == (0, 2)
    assert plain is rows
    assert changed.right[known].mean() == pytest.approx(rows.right[known].mean() - 0.1, abs=0.01)
    (_, failing), *_ = stages(rows, [Injection.parse("error=+5%")], seed=3)
    assert (failing.error >= 0).mean() == pytest.approx((rows.error >= 0).mean() + 0.05, abs=0.006)
    assert np.array_equal(failing.error, stages(rows, [Injection.parse("error=+5%")], seed=3)[0][1].error)


def test_the_begin_is_the_challengers_first_row(tmp_path: Path) -> None:
    """What only the champion answered before is its history."""
    folder = write(tmp_path, (Version("1"), Version("2")), Plan(2_000, 4, users=100))
    history = read_history(folder, a_spec())
    two = history.versions.index("2")
    late = (history.version == two) & (history.time_us < int((BEGIN.timestamp() + 7200) * 1e6))
    history.version = np.where(late, len(history.versions), history.version)
    history.versions.append("other")
    trial = prepare(history, "1", "2")

    assert trial.paired
    assert trial.begin_s == pytest.approx(BEGIN.timestamp() + 7200, abs=60)
    assert trial.starts[0] < BEGIN.timestamp() + 60

"""The documents' plain Python object: A/B tests without any server."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from headgate.errors import BadRequestError, ConflictError, NotFoundError
from headgate.gateway.ab import ABTestMode, ABTests, ABTestStatus
from headgate.gateway.execute import ArmFailedError

CHANCE = 1e-6


def saying(label: str, confidence: float = 0.5) -> Callable[[Any], Any]:
    return lambda rows: pd.DataFrame(
        {"prediction": [label] * len(rows), "confidence": [confidence] * len(rows)}
    )


def crash(rows: Any) -> Any:
    raise ValueError("no answer")


def sleep(rows: Any) -> Any:
    time.sleep(1.0)
    return ["late"]


class Model:
    """An object with `predict`, as scikit-learn's."""

    def predict(self, rows: Any) -> list[str]:
        return ["object"] * len(rows)


@pytest.fixture
def tests() -> ABTests:
    return ABTests(
        {
            "current": saying("a", 0.75),
            "next": saying("b", 0.5),
            "same": saying("a", 0.5),
            "third": saying("c"),
            "crashing": crash,
            "sleeping": sleep,
            "object": Model(),
        },
        timeout_s=0.2,
    )


def models_of(tests: ABTests, count: int, test_id: str = "t") -> list[str]:
    return [tests.predict(test_id, [1.0], user_id=f"user-{number}").model for number in range(count)]


def test_a_test_is_created_with_its_configuration(tests: ABTests) -> None:
    """TO-01, TO-02: enabled, created now in UTC, 5 % unless told otherwise."""
    before = datetime.now(UTC)
    test = tests.create_test(
        test_id="bull_v2_canary", control_model="current", treatment_model="next", description="5% canary"
    )

    assert before <= test.created_at <= datetime.now(UTC)
    assert test.as_dict() == {
        "test_id": "bull_v2_canary",
        "control_model": "current",
        "treatment_model": "next",
        "traffic_split": 0.05,
        "mode": "traffic_split",
        "enabled": True,
        "status": "active",
        "created_at": test.created_at.isoformat().replace("+00:00", "Z"),
        "description": "5% canary",
    }
    assert tests.get_test("bull_v2_canary") == test
    assert tests.list_tests() == [test]


def test_the_modes_are_the_documents_three() -> None:
    """TO-02."""
    assert [mode.value for mode in ABTestMode] == ["traffic_split", "shadow", "disabled"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"test_id": "t"}, ConflictError),
        ({"test_id": ""}, BadRequestError),
        ({"test_id": "x" * 101}, BadRequestError),
        ({"control_model": "nobody"}, NotFoundError),
        ({"treatment_model": "nobody"}, NotFoundError),
        ({"treatment_model": "third"}, BadRequestError),
        ({"traffic_split": 1.5}, BadRequestError),
        ({"traffic_split": -0.1}, BadRequestError),
        ({"traffic_split": float("nan")}, BadRequestError),
        ({"traffic_split": "5%"}, BadRequestError),
        ({"traffic_split": True}, BadRequestError),
        ({"mode": "half"}, BadRequestError),
    ],
    ids=str,
)
def test_a_configuration_that_can_not_work_is_refused(
    tests: ABTests, change: dict[str, Any], error: type[Exception]
) -> None:
    """TO-04, RT-04: duplicate id, unknown model, bad split."""
    tests.create_test("t", "current", "next")
    with pytest.raises(error):
        tests.create_test(**{"test_id": "t2", "control_model": "third", "treatment_model": "next", **change})


def test_one_control_model_carries_one_live_traffic_test(tests: ABTests) -> None:
    """RT-14: several tests at once, but not on the same model; RT-15: one per regime, each with its own control."""
    tests.create_test("bull", "current", "next")
    tests.create_test("bear", "third", "next")
    tests.create_test("look", "current", "same", mode=ABTestMode.SHADOW)
    with pytest.raises(ConflictError, match="bull too"):
        tests.create_test("bull2", "current", "third")
    tests.disable_test("bull")
    tests.create_test("bull2", "current", "third")
    with pytest.raises(ConflictError, match="bull2 too"):
        tests.enable_test("bull")


def test_a_request_id_always_lands_in_the_same_group(tests: ABTests) -> None:
    """RT-01, RT-02, RT-03."""
    tests.create_test("t", "current", "next", traffic_split=0.5)
    for ids in ({"request_id": "r1"}, {"user_id": "u1", "request_id": "any"}, {"entity_id": "e1"}, {}):
        assert len({tests.predict("t", [1.0, 2.0], **ids).model for _ in range(5)}) == 1
    frames = [pd.DataFrame({"x": [1.0]}) for _ in range(5)]
    assert len({tests.predict("t", frame).model for frame in frames}) == 1


def test_a_growing_split_keeps_everyone_who_is_in(tests: ABTests) -> None:
    """RT-09, RT-10, RT-11, TO-03, TO-08."""
    tests.create_test("t", "current", "next", traffic_split=0.05)
    inside: set[int] = set()
    for share in (0.05, 0.1, 0.25, 0.5, 1.0):
        tests.update_traffic_split("t", share)
        now = {number for number, name in enumerate(models_of(tests, 600)) if name == "next"}

        assert stats.binom.ppf(CHANCE / 2, 600, share) <= len(now) <= stats.binom.isf(CHANCE / 2, 600, share)
        assert inside <= now
        inside = now


def test_disabling_sends_all_to_control_and_enabling_restores_the_split(tests: ABTests) -> None:
    """RT-12."""
    tests.create_test("t", "current", "next", traffic_split=0.4)
    before = models_of(tests, 200)
    tests.disable_test("t")
    assert set(models_of(tests, 200)) == {"current"}
    assert tests.predict("t", [1.0]).reason == "test_disabled"
    assert tests.enable_test("t").traffic_split == 0.4
    assert models_of(tests, 200) == before


@pytest.mark.parametrize(
    ("treatment", "reason"), [("crashing", "fallback_error"), ("sleeping", "fallback_timeout")]
)
def test_control_answers_when_the_treatment_can_not(tests: ABTests, treatment: str, reason: str) -> None:
    """RT-13: and it is counted."""
    tests.create_test("t", "current", treatment, traffic_split=1.0)
    answer = tests.predict("t", [1.0], user_id="u")
    counted = tests.get_test_stats("t")

    assert (answer.model, answer.group, answer.reason) == ("current", "control", reason)
    assert (counted["control_count"], counted["treatment_count"], counted["error_count"]) == (1, 0, 1)


def test_controls_own_failure_is_raised(tests: ABTests) -> None:
    tests.create_test("t", "crashing", "next", traffic_split=0.0)
    with pytest.raises(ArmFailedError, match="no answer"):
        tests.predict("t", [1.0])


def test_weights_over_many_versions(tests: ABTests) -> None:
    """RT-06, RT-07, RT-08."""
    tests.create_test("t", "current", "next")
    tests.set_weights("t", {"current": 0.7, "next": 0.15, "third": 0.15})
    found = models_of(tests, 1000)
    for name, share in {"current": 0.7, "next": 0.15, "third": 0.15}.items():
        low, high = stats.binom.ppf(CHANCE / 2, 1000, share), stats.binom.isf(CHANCE / 2, 1000, share)
        assert low <= found.count(name) <= high
    tests.set_weights("t", {"next": 1.0})
    assert set(models_of(tests, 100)) == {"next"}
    tests.set_weights("t", {"current": 1.0})
    assert set(models_of(tests, 100)) == {"current"}
    with pytest.raises(ValueError, match=r"^Traffic weights must sum to 1\.0, got 0\.95$"):
        tests.set_weights("t", {"current": 0.8, "next": 0.15})
    with pytest.raises(NotFoundError):
        tests.set_weights("t", {"current": 0.8, "nobody": 0.2})
    assert set(models_of(tests, 100)) == {"current"}


def test_a_rollback_is_visible_while_it_goes_on_and_ends_the_test(tests: ABTests) -> None:
    """TO-05, TO-06."""
    tests.create_test("t", "current", "next", traffic_split=1.0)
    assert tests.start_rollback("t", "error rate").status is ABTestStatus.ROLLBACK_IN_PROGRESS
    assert tests.get_test("t").as_dict()["status"] == "rollback_in_progress"
    assert set(models_of(tests, 20)) == {"current"}
    done = tests.mark_rolled_back("t", "error rate 7 % vs 5 %")
    assert (done.status, done.reason, done.enabled) == (
        ABTestStatus.ROLLED_BACK,
        "error rate 7 % vs 5 %",
        False,
    )
    for forbidden in (
        lambda: tests.enable_test("t"),
        lambda: tests.update_traffic_split("t", 0.5),
        lambda: tests.promote("t"),
    ):
        with pytest.raises(ConflictError):
            forbidden()
    with pytest.raises(BadRequestError):
        tests.mark_rolled_back("t", "")


def test_promotion_gives_the_treatment_everything(tests: ABTests) -> None:
    """TO-07."""
    tests.create_test("t", "current", "next")
    test = tests.promote("t")

    assert (test.traffic_split, test.status) == (1.0, ABTestStatus.PROMOTED)
    assert set(models_of(tests, 50)) == {"next"}


def test_a_treatment_nobody_met_can_not_be_promoted(tests: ABTests) -> None:
    """TO-07, TO-08."""
    tests.create_test("look", "current", "next", mode=ABTestMode.SHADOW)
    with pytest.raises(ConflictError):
        tests.promote("look")


def test_a_disabled_test_can_be_created_and_enabled_later(tests: ABTests) -> None:
    """TO-02."""
    tests.create_test("t", "current", "next", traffic_split=1.0, mode=ABTestMode.DISABLED)
    assert set(models_of(tests, 5)) == {"current"}
    assert tests.enable_test("t").mode is ABTestMode.TRAFFIC_SPLIT
    assert set(models_of(tests, 5)) == {"next"}


def test_shadow_mode_runs_both_and_answers_with_control(tests: ABTests) -> None:
    """SH-01, SH-02, SH-03, SH-04, SH-05, SH-06, SH-11: the split's value does not matter."""
    tests.create_test("t", "current", "next", traffic_split=1.0, mode=ABTestMode.SHADOW)
    assert set(models_of(tests, 30)) == {"current"}
    assert tests.flush_results()
    found = tests.get_test_stats("t", hours_back=168)

    assert (found["shadow_count"], found["total_samples"], found["time_window_hours"]) == (30, 30, 168)
    assert found["metrics"]["control"]["avg_confidence"] == 0.75
    assert found["metrics"]["comparison"]["agreement_rate"] == 0.0
    assert found["metrics"]["comparison"]["avg_confidence_delta"] == -0.25
    assert found["metrics"]["comparison"]["avg_latency_delta_ms"] is not None
    assert found["metrics"]["treatment"]["stddev_latency_ms"] >= 0
    assert tests.get_action_distribution("t") == {"control": {"a": 30}, "treatment": {"b": 30}}
    [one] = tests.disagreements("t", limit=1)
    assert (one.actions, one.actions_match, one.confidence_delta) == (
        {"control": "a", "treatment": "b"},
        False,
        -0.25,
    )


@pytest.mark.parametrize("treatment", ["crashing", "sleeping"])
def test_a_broken_shadow_alters_nothing(tests: ABTests, treatment: str) -> None:
    """SH-07."""
    tests.create_test("t", "current", treatment, mode=ABTestMode.SHADOW)
    started = time.monotonic()
    assert models_of(tests, 3) == ["current"] * 3
    assert time.monotonic() - started < 0.2
    assert tests.flush_results()

    assert tests.get_test_stats("t")["error_count"] == 3
    assert tests.get_test_stats("t")["metrics"]["comparison"]["agreement_rate"] is None


def test_statistics_are_of_the_window_that_is_asked_for() -> None:
    """SH-04."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    tests = ABTests({"current": saying("a"), "next": saying("b")}, clock=lambda: now[0])
    tests.create_test("t", "current", "next", traffic_split=0.0)
    tests.predict("t", [1.0])
    now[0] += timedelta(hours=25)
    tests.predict("t", [1.0])

    assert tests.get_test_stats("t")["total_samples"] == 1
    assert tests.get_test_stats("t", hours_back=26)["total_samples"] == 2
    assert tests.get_test_stats("t", hours_back=0.0)["metrics"]["treatment"]["avg_confidence"] is None


def test_models_with_a_predict_method_are_called_by_it(tests: ABTests) -> None:
    tests.create_test("t", "object", "next", traffic_split=0.0)

    assert tests.predict("t", [1.0, 2.0]).prediction == ["object", "object"]


def test_an_unknown_test_is_named(tests: ABTests) -> None:
    with pytest.raises(NotFoundError, match="test 'nobody' not found"):
        tests.predict("nobody", [1.0])


def test_changes_under_load_lose_no_request(tests: ABTests) -> None:
    """RT-09."""
    tests.create_test("t", "current", "next", traffic_split=0.5)
    stop = threading.Event()

    def turn() -> None:
        share = 0.0
        while not stop.is_set():
            share = 1.0 - share
            tests.update_traffic_split("t", share)

    thread = threading.Thread(target=turn)
    thread.start()
    found = models_of(tests, 500)
    stop.set()
    thread.join()

    assert set(found) <= {"current", "next"}
    assert len(found) == tests.get_test_stats("t")["total_samples"] == 500

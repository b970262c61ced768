"""`headgate plan`: what a rollout can learn with the traffic there is."""

import math

import numpy as np
import pytest

from headgate.core.spec import RolloutSpec
from headgate.core.stats import limits
from headgate.core.stats.paired import log_not_worse_paired
from headgate.errors import BadRequestError
from headgate.plan import Traffic, as_json, plan
from headgate.plan.questions import check_alpha, pairs_not_worse, questions
from headgate.plan.stages import Stage, stages
from headgate.plan.traffic import parse_rate, parse_share

HOUR, DAY = 3_600.0, 86_400.0
BUSY = Traffic(requests_s=100, labels_s=20 / 60, label_delay_s=2 * HOUR)
SLOW = Traffic(requests_s=40 / HOUR, labels_s=10 / HOUR, label_delay_s=2 * HOUR)


def a_spec(**changes: object) -> RolloutSpec:
    return RolloutSpec.model_validate({"model": "digits", "shadow": None, **changes})


@pytest.mark.parametrize(
    ("text", "per_s"),
    [("40/h", 40 / HOUR), ("2/s", 2), ("1,200/d", 1200 / DAY), ("30 / min", 0.5), ("0.5/m", 0.5 / 60)],
)
def test_a_rate_is_read_in_the_unit_it_is_written_in(text: str, per_s: float) -> None:
    assert parse_rate(text) == pytest.approx(per_s)


@pytest.mark.parametrize("text", ["", "40", "40/", "/h", "x/h", "-1/h", "nan/h", "inf/s", "40/fortnight"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match="like 40/h, 2/s or 1200/d"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["", "x", "90", "101%", "-1%", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadRequestError, match=r"like 25% or 0\.25"):
        parse_share(text, "accuracy")


@pytest.mark.parametrize(
    "changes",
    [
        {"accuracy": 1.0},
        {"error_rate": 0.0},
        {"requests_s": 0.0},
        {"labels_s": 2.0},
        {"label_delay_s": math.inf},
    ],
    ids=str,
)
def test_traffic_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(BadRequestError):
        Traffic(**({"requests_s": 1.0, "labels_s": 0.5} | changes))


def test_a_checks_alpha_is_its_weight_of_what_the_sweeps_may_spend() -> None:
    """Cache is off by default, so accuracy has .25 of .9; a fifth of the budget is the event gate's."""
    assert check_alpha(a_spec(), "accuracy") == pytest.approx(0.25 / 0.9 * 0.05 * 0.8)


def test_the_margin_is_seen_when_the_limit_says_so() -> None:
    """By hand: requests of `expected_requests` at 5 percent, over the requests per second there."""
    step = plan(a_spec(), BUSY).steps[0]
    needed = limits.expected_requests(0.01, 0.015, 5, check_alpha(a_spec(), "error_rate"))

    assert step.margin_s["error_rate"] == pytest.approx(needed / 5)


def test_the_smallest_harm_of_a_stage_is_the_one_it_has_just_enough_for() -> None:
    step = plan(a_spec(), BUSY).steps[0]
    harm = step.sees["error_rate"]

    assert harm is not None
    needed = limits.expected_requests(0.01, 0.01 + harm, 5, check_alpha(a_spec(), "error_rate"))
    assert needed == pytest.approx(5 * DAY, rel=0.01)


def test_evidence_adds_up_so_later_stages_see_smaller_harm() -> None:
    for traffic in (BUSY, SLOW):
        for check in ("accuracy", "error_rate"):
            seen = [step.sees[check] for step in plan(a_spec(), traffic).steps]

            assert None not in seen
            assert seen == sorted(seen, reverse=True)  # type: ignore[type-var]


def test_labels_that_come_late_count_late() -> None:
    late = plan(a_spec(), Traffic(100, 1, label_delay_s=10 * HOUR))
    soon = plan(a_spec(), Traffic(100, 1))

    assert late.steps[0].labels == pytest.approx(soon.steps[0].labels * 14 / 24)
    assert late.steps[0].sees["accuracy"] > soon.steps[0].sees["accuracy"]  # type: ignore[operator]
    assert late.steps[0].sees["error_rate"] == soon.steps[0].sees["error_rate"]


def test_the_ramp_waits_below_the_weight_that_asks_for_evidence() -> None:
    """With 10 labels an hour two points of accuracy are shown after weeks at 50 percent, not at 100."""
    made = plan(a_spec(), SLOW)
    lasts = {step.stage.name: step.lasts_s for step in made.steps}

    assert lasts["25 %"] == DAY
    assert lasts["50 %"] > 20 * DAY
    assert made.shown_s["accuracy"] <= made.steps[-1].starts_s


def test_a_literal_rollout_waits_for_no_evidence() -> None:
    made = plan(a_spec(decision="literal"), SLOW)

    assert {step.lasts_s for step in made.steps} == {DAY}
    assert "what guarded would know" in as_json(made)["advice"][1]


def test_the_last_step_leaves_the_holdback_with_the_champion() -> None:
    """At 100 percent nothing could be compared; without a hold-back nothing is seen there."""
    assert stages(a_spec())[-1].weight_percent == 95
    blind = plan(a_spec(watch={"holdback": 0, "duration": "0s"}), BUSY).steps[-1]

    assert blind.margin_s == {"accuracy": math.inf, "error_rate": math.inf}


def test_shadow_is_paired_and_meets_no_user() -> None:
    made = as_json(plan(a_spec(shadow={"duration": "7d"}), BUSY))

    assert made["checks"][0]["exposed_requests_at_margin"] == 0
    assert made["steps"][0]["weight_percent"] == 0
    assert made["advice"][0].startswith("Learn it in shadow: about ")
    assert "no user meets the challenger" in made["advice"][0]
    assert made["advice"][0].endswith("Its 7 d of shadow are long enough.")


def test_a_shadow_that_is_missing_or_too_short_is_said_with_its_length() -> None:
    missing = as_json(plan(a_spec(), BUSY))
    short = as_json(plan(a_spec(shadow={"duration": "1h"}), BUSY))
    hours = math.ceil(missing["shadow_shows_after_s"] / HOUR)

    assert missing["advice"][0].endswith(f"Add `shadow: {{duration: {hours}h}}`.")
    assert f"Set shadow.duration to {hours}h, it is 60 min." in short["advice"][0]


def test_without_labels_the_plan_says_that_accuracy_is_never_known() -> None:
    made = as_json(plan(a_spec(), Traffic(100, 0)))

    assert made["advice"][0].startswith("Without labels accuracy can neither be confirmed worse nor shown")
    assert made["done_after_s"] is None
    assert made["checks"][0]["not_worse_shown_after_s"] is None
    assert made["steps"][0]["smallest_harm"]["accuracy"] is None


def test_checks_that_starve_are_named_with_the_setting_that_feeds_them() -> None:
    """The engine holds on insufficient data; at 2 requests an hour latency never has its 1,000."""
    made = plan(a_spec(decision="literal"), SLOW)
    first = " ".join(made.steps[0].holds)

    assert "latency asks for 1,000 requests within 24 h and gets 48" in first
    assert "set overrides.latency.latency_sample_size_minimum to 38" in first
    assert "anomaly asks for 8 of 20 points with requests and gets 0.7: set analysis.point to 21m" in first
    assert made.done_s == math.inf


def test_a_guarded_check_waits_for_its_samples_over_the_whole_rollout() -> None:
    made = plan(a_spec(), SLOW)
    least = 1_000 / made.steps[0].stage.pace(SLOW, labelled=False)

    assert not [why for step in made.steps for why in step.holds]
    assert made.steps[0].lasts_s >= least
    assert made.steps[1].lasts_s < least


def test_a_guarded_check_without_any_labels_is_said_to_hold() -> None:
    made = plan(a_spec(), Traffic(100, 0))

    assert any("accuracy asks for labels and gets none" in why for step in made.steps for why in step.holds)


def test_what_the_plan_suggests_ends_the_holds() -> None:
    fed = a_spec(
        decision="literal",
        analysis={"point": "21m"},
        overrides={
            "latency": {"latency_sample_size_minimum": 38},
            "confidence_drift": {"confidence_sample_size_minimum": 38},
            "throughput": {"throughput_sample_size_minimum": 38},
            "accuracy": {"enabled": False},
        },
    )

    assert not [why for step in plan(fed, SLOW).steps for why in step.holds]
    assert math.isfinite(plan(fed, SLOW).done_s)


def test_labels_later_than_the_checks_look_back_are_said_so() -> None:
    made = plan(a_spec(decision="literal"), Traffic(100, 1, label_delay_s=DAY))

    assert made.steps[0].holds == [
        "accuracy asks for 100 labels within 24 h and gets 0: labels must come sooner than that"
    ]


def test_spec_samples_and_open_pauses_are_waited_for() -> None:
    steps = [{"setWeight": 5, "pause": {}, "minSamples": 1_000_000}, {"setWeight": 50}, {"setWeight": 100}]
    step = plan(a_spec(steps=steps), BUSY).steps[0]

    assert step.stage.soak_s is None
    assert step.lasts_s == pytest.approx(200_000)


def test_nothing_to_reckon_with_is_said() -> None:
    none = a_spec(overrides={"accuracy": {"enabled": False}, "error_rate": {"enabled": False}})

    assert "nothing to reckon with" in as_json(plan(none, BUSY))["advice"][0]


def test_the_paired_forecast_is_what_the_paired_test_needs() -> None:
    """120 seeded runs of equal models that differ in 6 percent of the answers; margin 3 points, alpha .05."""
    random = np.random.default_rng(7)
    needed = []
    for _ in range(120):
        draws = random.multinomial(25, [0.03, 0.03, 0.94], size=400).cumsum(axis=0)
        crossed = (log_not_worse_paired(*map(int, row), margin=0.03) >= math.log(20) for row in draws)
        needed.append(25 * (1 + next((n for n, hit in enumerate(crossed) if hit), 400)))
    forecast = pairs_not_worse(0.03, 0.06, 0.05)

    assert 0.7 < float(np.mean(needed)) / forecast < 1.3


def test_harm_in_shadow_needs_fewer_samples_than_in_the_canary() -> None:
    """Pairs tell more than labels apart (statistics.md 2): 2 points of accuracy, 95 percent agreement."""
    accuracy = questions(a_spec(), Traffic(100, 1))[0]
    shadow, canary = Stage("shadow", 0.0, 0.0, shadow=True), Stage("5 %", 5.0, 0.0)

    assert accuracy.harm_needs(shadow, 0.02) < 0.75 * accuracy.harm_needs(canary, 0.02)

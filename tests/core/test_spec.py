"""The spec: what a person may write, and what it means."""

from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from headgate.core.lint import schema
from headgate.core.ramp import ramp_problems
from headgate.core.spec import PLANS, RolloutSpec, format_duration, parse_duration
from headgate.specfile import load_spec, write_schema

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
EXAMPLES = sorted((DEPLOYMENTS / "rollouts").glob("*.yaml"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("1h30m", 5400),
        ("7d", 604800),
        ("1w", 604800),
        ("250ms", 0.25),
        ("90", 90),
        (90, 90),
        (1.5, 1.5),
        (timedelta(hours=2), 7200),
        (" 2H ", 7200),
    ],
)
def test_durations_are_read_as_argo_reads_them(text: object, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "soon",
        "-5s",
        "5 s",
        "1h!",
        True,
        None,
        -1,
        float("nan"),
        float("inf"),
        10**400,
        "9" * 400 + "s",
        "367d",
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"write e\.g\. 30s, 15m, 24h or 7d"):
        parse_duration(value)


@given(st.integers(0, 366 * 86400 * 10**6))
def test_a_duration_survives_being_written_and_read(microseconds: int) -> None:
    value = timedelta(microseconds=microseconds)

    assert parse_duration(format_duration(value)) == value


def test_the_named_plans_are_the_documents() -> None:
    """RP-01, RP-02, RP-03, RP-04: stages and calendar."""
    plans = {name: [(step.set_weight, step.pause.duration) for step in plan] for name, plan in PLANS.items()}
    day = timedelta(days=1)

    assert plans["standard"] == [(weight, day) for weight in (5, 10, 25, 50, 100)]
    assert plans["calendar"] == [(5, 2 * day), (10, 2 * day), (25, 3 * day), (50, 7 * day), (100, 7 * day)]
    assert plans["extended"] == [(5, day), (20, 2 * day), (50, 2 * day), (80, 2 * day), (100, 2 * day)]
    for name in plans:
        assert RolloutSpec(model="m", plan=name).ramp == PLANS[name]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spec",
    [
        {"decision": "literal", "watch": {"holdback": 0}},
        {"watch": {"holdback": 0, "duration": 0}},
        {"watch": {"holdback": 49}},
        {"evidence": {"requiredAbove": 5, "eventShare": 0}},
        {"segments": {"columns": ["country"], "onSegment": "rollback"}, "harmBudget": {"extraBad": 50}},
        {"overrides": {"latency": {"margin": 3.4}, "confidence_drift": {"margin": 0.5}}},
    ],
)
def test_what_is_meant_is_taken(spec: dict[str, object]) -> None:
    assert RolloutSpec.model_validate({"model": "m"} | spec)


def test_a_model_is_enough() -> None:
    spec = RolloutSpec.model_validate({"model": "digits"})
    assert (spec.decision, spec.evidence.alpha, spec.watch.holdback) == ("guarded", 0.05, 5)

    assert [step.set_weight for step in spec.ramp] == [5, 10, 25, 50, 100]
    assert spec.shadow is not None
    assert spec.shadow.duration == timedelta(days=7)
    assert (spec.profile, spec.environment, spec.tenant) == ("relative", None, "default")


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        pytest.param([100], "first weight 100 > maxFirstWeight 25", id="all-at-once"),
        pytest.param([50, 100], "first weight 50 > maxFirstWeight 25", id="equal-split-at-once"),
        pytest.param([5, 60, 100], "increase 5 -> 60 is 55 > maxWeightIncrease 50", id="jump"),
        pytest.param([5, 5, 50, 100], "weight 5 does not grow after 5", id="no-growth"),
        pytest.param([5, 25, 10, 50, 100], "weight 10 does not grow after 25", id="back"),
        pytest.param([5, 50], "last weight is 50, must be 100", id="never-whole"),
        pytest.param([], "is empty", id="empty"),
    ],
)
def test_a_ramp_that_limits_no_damage_is_refused(weights: list[float], problem: str) -> None:
    """RP-05: nothing to everybody in one step, and an equal split at once."""
    with pytest.raises(ValidationError, match=problem):
        RolloutSpec.model_validate({"model": "m", "steps": [{"setWeight": weight} for weight in weights]})


def test_an_increase_of_exactly_the_limit_is_fine() -> None:
    assert ramp_problems([25, 50, 100], 25, 50) == []


def test_a_wide_step_may_be_allowed_on_purpose() -> None:
    spec = {"model": "m", "maxFirstWeight": 100, "steps": [{"setWeight": 100}]}

    assert RolloutSpec.model_validate(spec).ramp[0].set_weight == 100


@pytest.mark.parametrize(
    "spec",
    [
        {"shadow": {"minAgreement": 0.95}},
        {"overrides": {"latncy": {}}},
        {"overrides": {"latency": {"latency_threshold_ms": float("nan")}}},
        {"analysis": {"interval": 0}},
        {"recovery": {"timeout": "0s"}},
        {"steps": [{"setWeight": True}]},
        {"steps": [{"setWeight": "5"}, {"setWeight": 50}, {"setWeight": 100}]},
        {"maxStepDowns": False},
        {"model": ""},
        {"unknown": 1},
        {"decision": "careful"},
        {"evidence": {"requiredAbove": 3}},
        {"evidence": {"alpha": 0}},
        {"watch": {"holdback": 0}},
        {"segments": {"onSegment": "rollback"}},
        {"harmBudget": {"extraBad": 0}},
        {"overrides": {"throughput": {"margin": 0.8}}},
    ],
)
def test_what_would_be_misread_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RolloutSpec.model_validate({"model": "m"} | spec)


@pytest.mark.parametrize(
    ("weight", "step"), [(0, -1), (2.5, -1), (5, 0), (9.99, 0), (12.5, 1), (25, 2), (99, 3), (100, 4)]
)
def test_a_weight_between_two_stages_belongs_to_the_lower(weight: float, step: int) -> None:
    """RP-07 (C9)."""
    assert RolloutSpec(model="m").step_at(weight) == step


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_a_spec_and_survives_json(path: Path) -> None:
    spec = load_spec(path)
    adapter = TypeAdapter(RolloutSpec)

    assert adapter.validate_json(adapter.dump_json(spec)) == spec
    assert spec.ramp[-1].set_weight == 100


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_fits_the_schema_that_editors_use(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema())
    assert path.read_text(encoding="utf-8").startswith(
        "# yaml-language-server: $schema=../rollout.schema.json\n"
    )


def test_the_schema_refuses_what_the_spec_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"model": "m", "overrides": {"accuracy": {"accuracy_treshold": 1}}}, schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"model": "m", "shadow": {"duration": "soon"}}, schema())


def test_the_stored_schema_is_not_stale(tmp_path: Path) -> None:
    """Renew it with headgate.specfile.write_schema('deployments/rollout.schema.json')."""
    write_schema(tmp_path / "schema.json")

    assert (tmp_path / "schema.json").read_bytes() == (DEPLOYMENTS / "rollout.schema.json").read_bytes()


def test_the_documents_product_is_an_example() -> None:
    """RK1-01, RK2-01, RK3-01, RK4-01, RK5-01, RK6-01, RK7-01: every key of the documents is taken as it is written."""
    policies = load_spec(DEPLOYMENTS / "rollouts" / "forecastin.yaml").policies

    assert policies.accuracy.accuracy_window_minutes == 15
    assert (policies.latency.latency_threshold_ms, policies.latency.latency_p95_threshold_ms) == (2.0, 3.0)
    assert policies.error_rate.error_categories.extraction_errors == 0.03
    assert policies.throughput.throughput_threshold_rps == 30000
    assert policies.cache_performance.enabled
    assert policies.anomaly.anomaly_detection_sensitivity == "high"

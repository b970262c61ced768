"""Profiles, environments, overrides, and who wins."""

from datetime import date
from typing import Any

import pytest

from headgate.core.policies import Policies
from headgate.core.profiles import override_problems, resolve
from headgate.errors import SpecError


def limits(profile: Any, environment: Any = None, **overrides: Any) -> tuple[object, ...]:
    """accuracy, latency ms, error rate, cache hit, requests/s, sensitivity."""
    found = resolve(profile, environment, overrides).policies
    return (
        found.accuracy.accuracy_threshold,
        found.latency.latency_threshold_ms,
        found.error_rate.error_rate_threshold,
        found.cache_performance.cache_hit_threshold,
        found.throughput.throughput_threshold_rps,
        found.anomaly.anomaly_detection_sensitivity,
    )


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        pytest.param("conservative", (0.90, 1.5, 0.02, 0.99, 40000, "high"), id="PF-01"),
        pytest.param("balanced", (0.85, 2.0, 0.05, 0.98, 30000, "medium"), id="PF-02"),
        pytest.param("aggressive", (0.80, 2.5, 0.08, 0.95, 25000, "low"), id="PF-03"),
    ],
)
def test_the_documents_profiles(profile: str, expected: tuple[object, ...]) -> None:
    """PF-01, PF-02, PF-03: exactly; and the cache they limit is judged."""
    assert limits(profile) == expected
    assert resolve(profile, None, {}).policies.cache_performance.enabled  # type: ignore[arg-type]


def test_relative_is_the_default_and_has_no_absolute_limit_of_another_product() -> None:
    """C11."""
    for environment in (None, "staging", "prod", "dev"):
        policies = resolve("relative", environment, {}).policies  # type: ignore[arg-type]
        assert policies.latency.latency_threshold_ms is None
        assert policies.latency.latency_p95_threshold_ms is None
        assert policies.throughput.throughput_threshold_rps is None
        assert not policies.cache_performance.enabled
    assert resolve("relative", None, {}).policies == Policies()


@pytest.mark.parametrize(
    ("environment", "expected", "rollback", "channels", "scaling"),
    [
        pytest.param("dev", (0.70, 5.0, 0.10, 0.95, 25000, "low"), False, (), False, id="PF-04"),
        pytest.param(
            "staging", (0.85, 2.0, 0.05, 0.95, 25000, "low"), True, ("slack", "email"), False, id="PF-05"
        ),
        pytest.param(
            "prod",
            (0.85, 2.0, 0.05, 0.98, 30000, "low"),
            True,
            ("slack", "email", "pagerduty"),
            True,
            id="PF-06",
        ),
    ],
)
def test_an_environment_wins_over_a_profile(
    environment: Any, expected: tuple[object, ...], rollback: bool, channels: tuple[str, ...], scaling: bool
) -> None:
    """PF-04, PF-05, PF-06, PF-07, AL-05."""
    found = resolve("aggressive", environment, {})

    assert limits("aggressive", environment) == expected
    assert (found.rollback_enabled, found.notification_channels, found.auto_scaling_enabled) == (
        rollback,
        channels,
        scaling,
    )


def test_an_override_wins_over_everything() -> None:
    """PF-07: defaults < profile < environment < overrides."""
    assert limits("aggressive", "prod", latency={"latency_threshold_ms": 7})[1] == 7
    assert limits("relative", "dev", accuracy={"accuracy_threshold": 0.6})[0] == 0.6
    assert limits("conservative")[0] == 0.90


def test_without_an_environment_rollback_is_on() -> None:
    found = resolve("relative", None, {})

    assert (found.rollback_enabled, found.notification_channels, found.auto_scaling_enabled) == (
        True,
        (),
        False,
    )


def test_both_spellings_of_the_sensitivity_mean_the_same() -> None:
    """C25."""
    for key in ("anomaly_sensitivity", "anomaly_detection_sensitivity"):
        assert limits("aggressive", None, anomaly={key: "high"})[5] == "high"
    both = {"anomaly": {"anomaly_sensitivity": "high", "anomaly_detection_sensitivity": "low"}}
    assert [one.problem for one in override_problems(both)] == [
        "'anomaly_sensitivity' and 'anomaly_detection_sensitivity' are the same key"
    ]


def test_error_categories_are_overridden_one_by_one() -> None:
    overrides = {"error_rate": {"error_categories": {"timeout_errors": 0.5}}}
    found = resolve("balanced", "prod", overrides).policies.error_rate.error_categories

    assert (found.timeout_errors, found.extraction_errors) == (0.5, 0.03)


def test_each_check_can_be_switched_off() -> None:
    """RK-90."""
    overrides = {name: {"enabled": False} for name in Policies.model_fields}
    policies = resolve("balanced", "prod", overrides).policies

    assert not any(getattr(policies, name).enabled for name in Policies.model_fields)


@pytest.mark.parametrize(
    ("overrides", "place", "words"),
    [
        pytest.param({"latncy": {}}, "overrides.latncy", ("unknown check", "'latency'"), id="check"),
        pytest.param({"cache": {}}, "overrides.cache", ("'cache_performance'",), id="short-name"),
        pytest.param({"zzz": {}}, "overrides.zzz", ("known are accuracy",), id="nothing-near"),
        pytest.param(
            {"accuracy": {"accuracy_treshold": 1}},
            "overrides.accuracy.accuracy_treshold",
            ("unknown key", "'accuracy_threshold'"),
            id="key",
        ),
        pytest.param(
            {"error_rate": {"error_categories": {"timeout": 0.1}}},
            "overrides.error_rate.error_categories.timeout",
            ("'timeout_errors'",),
            id="nested-key",
        ),
        pytest.param(
            {"accuracy": {"accuracy_threshold": "0.9"}},
            "overrides.accuracy.accuracy_threshold",
            ("'0.9' (str)", "without quotes"),
            id="text-is-no-number",
        ),
        pytest.param(
            {"accuracy": {"accuracy_threshold": True}},
            "overrides.accuracy.accuracy_threshold",
            ("True (bool)",),
            id="true-is-no-number",
        ),
        pytest.param(
            {"latency": {"latency_threshold_ms": float("nan")}},
            "overrides.latency.latency_threshold_ms",
            (".nan", "finite"),
            id="nan",
        ),
        pytest.param(
            {"latency": {"latency_increase_ratio": float("inf")}},
            "overrides.latency.latency_increase_ratio",
            (".inf",),
            id="infinity",
        ),
        pytest.param(
            {"accuracy": {"accuracy_threshold": 85}},
            "overrides.accuracy.accuracy_threshold",
            ("85", "at most 1"),
            id="percent-for-a-rate",
        ),
        pytest.param(
            {"anomaly": {"anomaly_sensitivity": "hgh"}},
            "overrides.anomaly.anomaly_sensitivity",
            ("low, medium, high", "'high'"),
            id="word",
        ),
        pytest.param(
            {"accuracy": {"enabled": "no"}}, "overrides.accuracy.enabled", ("true or false",), id="bool"
        ),
        pytest.param(
            {"accuracy": {"accuracy_threshold": date(2026, 1, 1)}},
            "overrides.accuracy.accuracy_threshold",
            ("<date>",),
            id="yaml-date",
        ),
        pytest.param({"accuracy": 0.9}, "overrides.accuracy", ("0.9", "below it"), id="no-mapping"),
        pytest.param([1], "overrides", ("mapping of checks",), id="list"),
    ],
)
def test_a_bad_override_says_where_it_stands_and_what_to_write(
    overrides: Any, place: str, words: tuple[str, ...]
) -> None:
    """PF-07, RK-90: nothing is converted or ignored."""
    with pytest.raises(SpecError) as caught:
        resolve("relative", None, overrides)
    ((where, problem, fix),) = caught.value.findings

    assert where == place
    assert all(word in f"{problem}; {fix}" for word in words), (problem, fix)


def test_every_mistake_is_told_at_once() -> None:
    overrides = {"latncy": {}, "accuracy": {"accuracy_threshold": "x", "b": 1}, "cache_performance": 3}
    with pytest.raises(SpecError) as caught:
        resolve("balanced", "prod", overrides)  # type: ignore[arg-type]

    assert len(caught.value.findings) == 4

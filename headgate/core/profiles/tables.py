"""The documents' profiles and environments (S0:456-515), as check -> key -> value.

Their absolute limits (1.5 ms, 40,000 requests/s) fit one product, so `relative`, the default, has none: it judges a
challenger against the champion beside it (acceptance C11).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

ProfileName = Literal["relative", "conservative", "balanced", "aggressive"]
EnvironmentName = Literal["dev", "staging", "prod"]
Thresholds = Mapping[str, Mapping[str, object]]


def _documents(
    accuracy: float, latency_ms: float, error_rate: float, cache_hit: float, rps: float, sensitivity: str
) -> Thresholds:
    return MappingProxyType(
        {
            "accuracy": {"accuracy_threshold": accuracy},
            "latency": {"latency_threshold_ms": latency_ms},
            "error_rate": {"error_rate_threshold": error_rate},
            # A limit that nobody judges is none: with these profiles the cache is one of the checks.
            "cache_performance": {"enabled": True, "cache_hit_threshold": cache_hit},
            "throughput": {"throughput_threshold_rps": rps},
            "anomaly": {"anomaly_detection_sensitivity": sensitivity},
        }
    )


PROFILES: Mapping[str, Thresholds] = MappingProxyType(
    {
        "relative": {},
        "conservative": _documents(0.90, 1.5, 0.02, 0.99, 40000.0, "high"),
        "balanced": _documents(0.85, 2.0, 0.05, 0.98, 30000.0, "medium"),
        "aggressive": _documents(0.80, 2.5, 0.08, 0.95, 25000.0, "low"),
    }
)


@dataclass(frozen=True, slots=True)
class Environment:
    """What an environment sets.

    Attributes:
        thresholds: check -> key -> value.
        absolute: the same, for limits that only fit the documents' own product; left out under `relative`.
        rollback_enabled: False = a rollback is recommended, never executed (DE-06).
    """

    thresholds: Thresholds = field(default_factory=dict)
    absolute: Thresholds = field(default_factory=dict)
    rollback_enabled: bool = True
    notification_channels: tuple[str, ...] = ()
    auto_scaling_enabled: bool = False


ENVIRONMENTS: Mapping[str, Environment] = MappingProxyType(
    {
        "dev": Environment(
            thresholds={
                "accuracy": {"accuracy_threshold": 0.70},
                "error_rate": {"error_rate_threshold": 0.10},
            },
            absolute={"latency": {"latency_threshold_ms": 5.0}},
            rollback_enabled=False,
        ),
        "staging": Environment(
            thresholds={
                "accuracy": {"accuracy_threshold": 0.85},
                "error_rate": {"error_rate_threshold": 0.05},
            },
            absolute={"latency": {"latency_threshold_ms": 2.0}},
            notification_channels=("slack", "email"),
        ),
        "prod": Environment(
            thresholds={
                "accuracy": {"accuracy_threshold": 0.85},
                "error_rate": {"error_rate_threshold": 0.05},
                "cache_performance": {"cache_hit_threshold": 0.98},
            },
            absolute={
                "latency": {"latency_threshold_ms": 2.0},
                "throughput": {"throughput_threshold_rps": 30000.0},
            },
            notification_channels=("slack", "email", "pagerduty"),
            auto_scaling_enabled=True,
        ),
    }
)

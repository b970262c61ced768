"""The seven checks, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from headgate.core.checks.accuracy import judge_accuracy
from headgate.core.checks.anomaly import judge_anomaly
from headgate.core.checks.cache import judge_cache
from headgate.core.checks.confidence_drift import judge_confidence_drift
from headgate.core.checks.error_rate import judge_error_rate
from headgate.core.checks.latency import judge_latency
from headgate.core.checks.throughput import judge_throughput
from headgate.core.evidence import Evidence
from headgate.core.policies import Policies
from headgate.core.verdict import Check, Verdict

CHECKS: Mapping[Check, Callable[[Evidence, Policies], Verdict]] = MappingProxyType(
    {
        Check.ACCURACY: lambda evidence, policies: judge_accuracy(evidence, policies.accuracy),
        Check.LATENCY: lambda evidence, policies: judge_latency(evidence, policies.latency),
        Check.CONFIDENCE_DRIFT: lambda evidence, policies: judge_confidence_drift(
            evidence, policies.confidence_drift
        ),
        Check.ERROR_RATE: lambda evidence, policies: judge_error_rate(evidence, policies.error_rate),
        Check.CACHE: lambda evidence, policies: judge_cache(evidence, policies.cache_performance),
        Check.THROUGHPUT: lambda evidence, policies: judge_throughput(evidence, policies.throughput),
        Check.ANOMALY: lambda evidence, policies: judge_anomaly(evidence, policies.anomaly),
    }
)
"""A check's name -> how it judges; the name is also the attribute of its policy in `Policies`."""


def enabled_checks(policies: Policies) -> tuple[Check, ...]:
    """The checks that judge under these policies, in the documents' order."""
    return tuple(check for check in CHECKS if getattr(policies, check.value).enabled)


def judge_all(evidence: Evidence, policies: Policies) -> dict[str, Verdict]:
    """The verdict of every enabled check; a disabled one has none."""
    return {check.value: CHECKS[check](evidence, policies) for check in enabled_checks(policies)}

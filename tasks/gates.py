"""The seven gates, and agreement in shadow. Each judges the whole fleet."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from headgate.core.verdict import Check
from headgate.fleet import Fleet, Judgement, judge_fleet, judge_shadows


@task(cache_policy=NO_CACHE)
def gate_accuracy(fleet: Fleet) -> Judgement:
    """Judge accuracy on labelled predictions (RK1)."""
    return judge_fleet(fleet, Check.ACCURACY)


@task(cache_policy=NO_CACHE)
def gate_latency(fleet: Fleet) -> Judgement:
    """Judge answer times (RK2)."""
    return judge_fleet(fleet, Check.LATENCY)


@task(cache_policy=NO_CACHE)
def gate_confidence_drift(fleet: Fleet) -> Judgement:
    """Judge the distribution of confidences (RK3)."""
    return judge_fleet(fleet, Check.CONFIDENCE_DRIFT)


@task(cache_policy=NO_CACHE)
def gate_error_rate(fleet: Fleet) -> Judgement:
    """Judge errors, overall and by category (RK4)."""
    return judge_fleet(fleet, Check.ERROR_RATE)


@task(cache_policy=NO_CACHE)
def gate_cache(fleet: Fleet) -> Judgement:
    """Judge cache hits, misses and evictions (RK5)."""
    return judge_fleet(fleet, Check.CACHE)


@task(cache_policy=NO_CACHE)
def gate_throughput(fleet: Fleet) -> Judgement:
    """Judge requests per second against the share routed (RK6)."""
    return judge_fleet(fleet, Check.THROUGHPUT)


@task(cache_policy=NO_CACHE)
def gate_anomaly(fleet: Fleet) -> Judgement:
    """Judge outliers and changed patterns (RK7)."""
    return judge_fleet(fleet, Check.ANOMALY)


@task(cache_policy=NO_CACHE)
def gate_agreement(fleet: Fleet) -> Judgement:
    """Judge how often a challenger in shadow answers as its champion does (SH-10)."""
    return judge_shadows(fleet)


GATES = (
    gate_accuracy,
    gate_latency,
    gate_confidence_drift,
    gate_error_rate,
    gate_cache,
    gate_throughput,
    gate_anomaly,
    gate_agreement,
)

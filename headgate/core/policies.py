"""The numbers each check judges by. Names and defaults are the documents'; a profile or spec may change each.

A limit of None is not judged. Absolute limits that only fit the documents' own product (2 ms, 30,000 requests/s) are None
by default and set by the documents' profiles (acceptance C11); limits relative to the champion hold everywhere.
"""

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: bool = True


class AccuracyPolicy(_Policy):
    """RK1. Rates are 0-1; `accuracy_degradation_percentage` is relative to the baseline (0.05 = 5 % worse)."""

    accuracy_threshold: float = Field(0.85, ge=0, le=1)
    accuracy_window_minutes: float = Field(15, gt=0)
    accuracy_sample_size_minimum: int = Field(100, ge=1)
    accuracy_degradation_percentage: float = Field(0.05, ge=0, le=1)
    accuracy_sustained_minutes: float = Field(10, gt=0)
    critical_ratio: float = Field(0.9, gt=0, le=1)
    """Below `critical_ratio * accuracy_threshold` the check is critical (acceptance C14b)."""
    margin: float = Field(0.02, gt=0, lt=1)
    """Guarded: how much less often than the champion a challenger may be right and still be promoted (0.02 = 2 points)."""


class LatencyPolicy(_Policy):
    """RK2. `latency_increase_ratio` is the allowed increase against the champion (0.5 = 50 % slower)."""

    latency_threshold_ms: FiniteFloat | None = Field(None, gt=0)
    latency_p95_threshold_ms: FiniteFloat | None = Field(None, gt=0)
    latency_window_seconds: float = Field(60, gt=0)
    latency_sample_size_minimum: int = Field(1000, ge=1)
    latency_increase_ratio: float = Field(0.5, gt=0)
    critical_ratio: float = Field(3.0, gt=1)
    """Above `critical_ratio` times a limit the check is critical."""
    margin: float = Field(0.5, gt=0)
    """Guarded: how much slower than the champion a challenger may be and still be promoted (0.5 = 1.5 times)."""


class ConfidenceDriftPolicy(_Policy):
    """RK3. Trigger = significant and an effect of at least `confidence_drift_threshold` (acceptance C12)."""

    confidence_drift_threshold: float = Field(0.1, gt=0, le=1)
    confidence_baseline_window_hours: float = Field(24, gt=0)
    confidence_distribution_bins: int = Field(10, ge=2, le=100)
    statistical_significance_level: float = Field(0.05, gt=0, lt=1)
    confidence_sample_size_minimum: int = Field(100, ge=2)
    confidence_clustering_share: float = Field(0.95, gt=0, le=1)
    duplication_rate_threshold: float = Field(0.1, gt=0, le=1)
    calibration_error_threshold: float = Field(0.1, gt=0, le=1)
    critical_effect: float = Field(0.5, gt=0, le=1)
    margin: float | None = Field(None, gt=0, le=1)
    """Guarded: largest distance of the two distribution functions that may be promoted; None = the threshold."""


class ErrorCategories(BaseModel):
    """Largest allowed error rate per category, 0-1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    extraction_errors: float = Field(0.03, gt=0, le=1)
    serialization_errors: float = Field(0.01, gt=0, le=1)
    timeout_errors: float = Field(0.02, gt=0, le=1)
    cache_errors: float = Field(0.01, gt=0, le=1)


class ErrorRatePolicy(_Policy):
    """RK4. Rates are 0-1."""

    error_rate_threshold: float = Field(0.05, gt=0, le=1)
    error_rate_baseline: float = Field(0.01, ge=0, le=1)
    error_categories: ErrorCategories = ErrorCategories()
    error_window_minutes: float = Field(5, gt=0)
    error_sustained_minutes: float = Field(2, gt=0)
    error_sample_size_minimum: int = Field(20, ge=1)
    retry_failure_rate_threshold: float = Field(0.2, gt=0, le=1)
    consecutive_increases: int = Field(3, ge=2)
    critical_ratio: float = Field(3.0, gt=1)
    margin: float = Field(0.005, gt=0, lt=1)
    """Guarded: how many more of its requests than the champion's may fail (0.005 = half a point)."""


class CachePolicy(_Policy):
    """RK5. Judged only where a cache is declared; hit and miss shares are 0-1."""

    enabled: bool = False
    cache_hit_threshold: float = Field(0.98, ge=0, le=1)
    cache_miss_threshold: float = Field(0.05, gt=0, le=1)
    cache_l2_hit_threshold: float = Field(0.95, ge=0, le=1)
    cache_eviction_rate_threshold: float = Field(0.1, gt=0)
    cache_response_time_ms: float = Field(5.0, gt=0)
    cache_window_minutes: float = Field(5, gt=0)
    cache_sample_size_minimum: int = Field(100, ge=1)
    margin: float = Field(0.01, gt=0, lt=1)
    """Guarded: how many more of its lookups than the champion's may miss (0.01 = one point)."""


class ThroughputPolicy(_Policy):
    """RK6. Per version the share served is compared with the share routed to it (acceptance C13)."""

    throughput_threshold_rps: FiniteFloat | None = Field(None, gt=0)
    throughput_degradation_percentage: float = Field(0.3, gt=0, le=1)
    throughput_window_minutes: float = Field(5, gt=0)
    throughput_sample_size_minimum: int = Field(100, ge=1)
    concurrent_request_limit: int = Field(1000, ge=1)
    queue_depth_limit: int = Field(100, ge=0)
    utilisation_limit: float = Field(0.8, gt=0, le=1)
    margin: float = Field(0.02, gt=0, lt=1)
    """Guarded: how many more of the requests routed to it than the champion a challenger may leave unserved."""


class AnomalyPolicy(_Policy):
    """RK7."""

    anomaly_detection_sensitivity: Literal["low", "medium", "high"] = "medium"
    anomaly_types: tuple[
        Literal["statistical_outliers", "pattern_changes", "correlation_breakdown", "distribution_shift"], ...
    ] = ("statistical_outliers", "pattern_changes", "correlation_breakdown", "distribution_shift")
    anomaly_confidence_threshold: float = Field(0.8, gt=0, le=1)
    anomaly_points_minimum: int = Field(8, ge=4)


class Policies(BaseModel):
    """All seven, as a rollout is judged by."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    accuracy: AccuracyPolicy = AccuracyPolicy()
    latency: LatencyPolicy = LatencyPolicy()
    confidence_drift: ConfidenceDriftPolicy = ConfidenceDriftPolicy()
    error_rate: ErrorRatePolicy = ErrorRatePolicy()
    cache_performance: CachePolicy = CachePolicy()
    throughput: ThroughputPolicy = ThroughputPolicy()
    anomaly: AnomalyPolicy = AnomalyPolicy()

    @property
    def reach(self) -> timedelta:
        """How far back the evidence of a step is read: a day, or the longest window where a spec asks for more."""
        minutes = (
            self.accuracy.accuracy_window_minutes,
            self.error_rate.error_window_minutes,
            self.cache_performance.cache_window_minutes,
            self.throughput.throughput_window_minutes,
            self.latency.latency_window_seconds / 60,
        )
        return max(timedelta(days=1), timedelta(minutes=max(minutes)))

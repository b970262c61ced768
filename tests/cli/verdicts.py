"""Verdicts and rollouts written by hand, as a sweep would store them."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from headgate.core.rollout import Decision, Phase, Recovery, Rollout, Ruling, StepResult
from headgate.core.spec import RolloutSpec
from headgate.core.verdict import Outcome, Standing, Verdict
from headgate.store import PredictionRow, Store

NOW = datetime.now(UTC).replace(microsecond=0)


def a_rollout(**changes: Any) -> Rollout:
    """Version 3 of digits at 25 percent against version 2, for an hour."""
    fields: dict[str, Any] = {
        "id": "digits-v3-1",
        "tenant": "default",
        "model": "digits",
        "challenger": "3",
        "champion": "2",
        "spec": RolloutSpec(model="digits"),
        "phase": Phase.PROGRESSING,
        "created_at": NOW - timedelta(hours=3),
        "phase_since": NOW - timedelta(hours=1),
        "started_by": "test",
        "step": 2,
        "weight_percent": 25.0,
        "step_since": NOW - timedelta(hours=1),
        "effective_since": NOW - timedelta(hours=1),
        "exposed": True,
    }
    return Rollout(**(fields | changes))


def rolled_back(**changes: Any) -> Rollout:
    """The same, taken back half an hour ago, recovered after 40 s."""
    recovery = Recovery(
        stage=3,
        started_at=NOW - timedelta(minutes=30),
        triggered_by="automatic_confirmed_harm",
        reason="accuracy 0.8410 < 0.8500, confirmed: evidence 512 >= 400",
        from_phase=Phase.PROGRESSING,
        from_weight_percent=25.0,
        seconds={"1": 2.0, "2": 8.0, "3": 30.0},
        score=1.0,
        status="successful_recovery",
    )
    fields = {
        "phase": Phase.ROLLED_BACK,
        "weight_percent": 0.0,
        "recovery": recovery,
        "finished_at": NOW - timedelta(minutes=29),
    }
    return a_rollout(**(fields | changes))


def a_standing(**changes: Any) -> Standing:
    """12.1 % wrong beside 10.0 %: evidence 12 of 400, not worse by more than 2 points shown to 71 %."""
    fields: dict[str, Any] = {
        "challenger": 0.121,
        "champion": 0.1,
        "difference": 0.021,
        "low": -0.003,
        "high": 0.046,
        "n_challenger": 1204,
        "n_champion": 22876,
        "log_e": math.log(12),
        "log_e_needed": math.log(400),
        "margin": 0.02,
        "log_ni": 0.71 * math.log(20),
        "log_ni_needed": math.log(20),
        "to_go": 1384.0,
        "eta_s": 11_400.0,
        "maturity": 0.82,
        "extra_bad": 25.0,
        "deff": 1.3,
        "parts": {"accuracy": math.log(12)},
    }
    return Standing(**(fields | changes))


def literal(**changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "check": "accuracy",
        "outcome": Outcome.FAIL,
        "severity": 0.4,
        "reason": "accuracy 0.8410 < 0.8500 (critical 0.7650)",
        "samples": 1204,
        "window_s": 900.0,
        "numbers": {"accuracy": 0.841, "baseline_accuracy": 0.9},
        "indicators": ("below_threshold",),
    }
    return Verdict(**(fields | changes))


def guarded(**changes: Any) -> Verdict:
    fields: dict[str, Any] = {
        "check": "accuracy",
        "outcome": Outcome.WARN,
        "severity": 0.4,
        "reason": "accuracy 0.8410 < 0.8500, not confirmed against the champion: evidence 12 of 400",
        "samples": 1204,
        "window_s": 900.0,
        "standing": a_standing(),
        "literal": literal(),
    }
    return Verdict(**(fields | changes))


def seven() -> dict[str, Verdict]:
    """What a sweep of a rollout with cache says."""
    fine = {"outcome": Outcome.PASS, "severity": 0.0, "literal": None}
    calm = {"log_e": -0.4, "extra_bad": 0.0, "maturity": None, "parts": {}, "deff": 1.0}
    latency = a_standing(
        **calm
        | {"log_e_needed": math.log(500), "margin": 0.02, "challenger": 0.051, "champion": 0.05}
        | {"difference": 0.001, "low": -0.01, "high": 0.012, "log_ni": 9.0}
    )
    one_armed = a_standing(challenger=0.01, champion=None, difference=None, low=None, high=None, **calm)
    endless = a_standing(low=None, high=None, to_go=None, eta_s=None, log_ni=-3.0, **calm)
    return {
        "accuracy": guarded(),
        "latency": guarded(check="latency", reason="mean 4.1 ms, p95 9.0 ms", standing=latency, **fine),
        "error_rate": guarded(
            check="error_rate", reason="error rate 0.0100 <= 0.0500", standing=endless, **fine
        ),
        "cache_performance": guarded(
            check="cache_performance", reason="hit rate 0.99", standing=one_armed, **fine
        ),
        "throughput": guarded(
            check="throughput",
            reason="37 of 100 requests in 300 s",
            outcome=Outcome.INSUFFICIENT_DATA,
            severity=0.0,
            standing=None,
            literal=None,
        ),
        "anomaly": guarded(
            check="anomaly",
            reason="nothing unusual",
            standing=a_standing(log_ni=None, log_ni_needed=None, margin=None, to_go=None, **calm),
            **fine,
        ),
    }


RULING = Ruling(Decision.HOLD, 0.9, "25 %: soak 1h of 24h", "soak", 0.2)


def keep(store: Store, rollout: Rollout, verdicts: Mapping[str, Verdict]) -> Rollout:
    """Have the store hold a rollout with its verdicts: created, then moved there in one transition."""
    begun = replace(rollout, phase=Phase.SHADOWING, recovery=None, finished_at=None, weight_percent=0.0)
    before = store.create(StepResult(begun, RULING), actor="test")
    if rollout.recovery is None:
        result = StepResult(replace(rollout, last_ruling=RULING), RULING, changed=True)
        return store.commit(before, result, actor="headgate", verdicts=verdicts)
    why = Ruling(
        Decision.ROLLBACK, 0.95, rollout.recovery.reason, rollout.recovery.triggered_by, 0.9, "critical"
    )
    going = replace(rollout, phase=Phase.ROLLING_BACK, finished_at=None, last_ruling=why)
    before = store.commit(before, StepResult(going, why, changed=True), actor="headgate", verdicts=verdicts)
    return store.commit(
        before, StepResult(replace(rollout, last_ruling=why), why, changed=True), actor="headgate"
    )


def a_prediction(request_id: str, **changes: Any) -> PredictionRow:
    """The challenger's `7`, sure by 0.9, forty minutes ago, of a user in the north."""
    fields: dict[str, Any] = {
        "time": NOW - timedelta(minutes=40),
        "tenant": "default",
        "model": "digits",
        "request_id": request_id,
        "row": 0,
        "key": f"user-{request_id}",
        "key_kind": "user",
        "user_id": f"user-{request_id}",
        "arm": "challenger",
        "version": "3",
        "rollout_id": "digits-v3-1",
        "reason": "split",
        "prediction": "7",
        "confidence": 0.9,
        "latency_ms": 5.0,
        "segment": {"region": "north"},
    }
    return PredictionRow(**(fields | changes))

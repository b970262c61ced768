"""What the checks' automatic actions mean, and which of them headgate carries out itself.

The names are the documents' (S0:52-256). What headgate does not own is told to the user's platform as the event
`headgate.<check>.<action>` (docs/hooks.md).
"""

from collections.abc import Mapping
from types import MappingProxyType

HALVE = "reduce_weight_by_half"
DOWN_TO_TEN = "reduce_weight_to_10_percent"
STEP_DOWNS = (HALVE, DOWN_TO_TEN)
BREAKDOWN = "log_accuracy_breakdown"
SAMPLES = "capture_sample_predictions"
ALERT_RISK = "alert_risk_management"
FREEZE = "freeze_new_entity_extractions"
MONITOR = "enable_enhanced_monitoring"
VERBOSE = "increase_log_verbosity"
BATCH = "enable_request_batching"

OWN: frozenset[str] = frozenset(
    {HALVE, DOWN_TO_TEN, BREAKDOWN, SAMPLES, ALERT_RISK, FREEZE, MONITOR, VERBOSE}
)
"""Actions that headgate carries out; they send no event."""
SHARED: frozenset[str] = frozenset({BATCH})
"""Actions that headgate carries out in its gateways; the event tells the user's platform that it was done."""

HOOKS: Mapping[str, str] = MappingProxyType(
    {
        HALVE: "The challenger's weight is halved.",
        DOWN_TO_TEN: "The challenger's weight falls to 10 %, if it is higher.",
        BREAKDOWN: "Answers and accuracy of both versions by segment, prediction and error go into the audit trail.",
        SAMPLES: "Predictions of the challenger, failed and disagreeing ones first, go into the audit trail.",
        ALERT_RISK: "The people who manage risk are alerted.",
        FREEZE: "No user who has not met the challenger meets it, until a person says `headgate unfreeze`.",
        MONITOR: "The rollout is judged three times as often for ten minutes, and on while the finding lasts.",
        VERBOSE: "Every verdict of the rollout is logged while it is watched more closely.",
        "scale_connection_pool": "Give the model's servers more connections.",
        "enable_latency_optimisation": "Switch the model's servers to whatever trades something else for speed.",
        "notify_performance_engineering": "Tell the people who know why it is slow.",
        "revert_to_rule_based_calibration": "Take confidences from rules again, not from the challenger's calibration.",
        "trigger_confidence_audit": "Have somebody check what the challenger's confidences mean.",
        "increase_deduplication_sensitivity": "Look for duplicates more strictly.",
        "enable_error_recovery_mode": "Retry and repair what failed.",
        "reduce_feature_complexity": "Leave optional features out, one after the other.",
        "activate_fallback_extraction": "Extract by the fallback method.",
        "escalate_to_on_call": "Wake whoever is on call.",
        "increase_cache_memory": "Give the cache more memory.",
        "enable_cache_warming": "Fill the cache before it is asked.",
        "reduce_cache_ttl": "Let unstable entries expire sooner.",
        "clear_cache_entries": "Drop the entries that cause the misses.",
        BATCH: "Requests that arrive together are answered by one call of the model, until the rollout ends; "
        "headgate's gateways do it, other servers should.",
        "reduce_concurrent_limit": "Allow fewer requests at a time.",
        "scale_horizontally": "Start more servers.",
        "prioritise_critical_requests": "Answer what matters first.",
        "run_health_check": "Check every part the model stands on.",
        "activate_incident_response": "Begin the incident protocol.",
    }
)
"""Action -> what is to happen, one sentence; every action of every check is here."""


def event(check: str, action: str) -> str:
    """The name under which the user's platform hears of an action."""
    return f"headgate.{check}.{action}"

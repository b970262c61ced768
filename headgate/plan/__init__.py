"""What a rollout can learn with the traffic there is, before it starts."""

from headgate.plan.advice import advise, as_json
from headgate.plan.traffic import Traffic
from headgate.plan.walk import Plan, plan

__all__ = ["Plan", "Traffic", "advise", "as_json", "plan"]

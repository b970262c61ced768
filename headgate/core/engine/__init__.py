"""The state machine: state, observations and now in; new state, reason and effects out. Pure."""

from headgate.core.engine.approvals import apply_approval
from headgate.core.engine.commands import command, start
from headgate.core.engine.legality import legal_verbs
from headgate.core.engine.sweep import step

__all__ = ["apply_approval", "command", "legal_verbs", "start", "step"]

"""Thresholds by name: defaults < profile < environment < overrides (PF-07)."""

from headgate.core.profiles.overrides import override_problems
from headgate.core.profiles.resolve import Resolved, resolve

__all__ = ["Resolved", "override_problems", "resolve"]

"""Thresholds by name: defaults < profile < environment < overrides (PF-07)."""

from headgate.core.profiles.overrides import ALIASES, override_problems
from headgate.core.profiles.resolve import Resolved, resolve

__all__ = ["ALIASES", "Resolved", "override_problems", "resolve"]

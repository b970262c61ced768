"""docs/hooks.md and the table that the engine acts by say the same."""

import re
from pathlib import Path

import pytest

from headgate.core import hooks
from headgate.core.checks import accuracy, anomaly, cache, confidence_drift, error_rate, latency, throughput
from headgate.core.verdict import Check

PAGE = (Path(__file__).parents[1] / "docs" / "hooks.md").read_text()
ASKED = {
    Check.ACCURACY: accuracy.ACTIONS,
    Check.LATENCY: latency.ACTIONS,
    Check.CONFIDENCE_DRIFT: confidence_drift.ACTIONS,
    Check.ERROR_RATE: error_rate.ACTIONS,
    Check.CACHE: cache.ACTIONS,
    Check.THROUGHPUT: throughput.ACTIONS,
    Check.ANOMALY: anomaly.ACTIONS,
}
PAIRS = [(check.value, action) for check, actions in ASKED.items() for action in actions]


def test_every_event_stands_on_the_page_with_its_meaning_and_no_other() -> None:
    """RK-92: what a check may ask of the platform is named and documented."""
    told = dict(re.findall(r"^\| `(headgate\.[a-z0-9_.]+)` \| (.+) \|$", PAGE, re.MULTILINE))

    assert told == {
        hooks.event(check, action): hooks.HOOKS[action] for check, action in PAIRS if action not in hooks.OWN
    }


def test_every_action_of_headgates_own_stands_on_the_page_with_its_check() -> None:
    """RK-92."""
    told = re.findall(r"^\| ([a-z_]+) \| `([a-z0-9_]+)` \| (.+) \|$", PAGE, re.MULTILINE)

    assert sorted(told) == sorted(
        (check, action, hooks.HOOKS[action]) for check, action in PAIRS if action in hooks.OWN
    )


@pytest.mark.parametrize("check", ASKED, ids=str)
def test_every_action_of_a_check_has_a_meaning(check: Check) -> None:
    """RK-92: nothing that a check asks for is lost."""
    assert set(ASKED[check]) <= set(hooks.HOOKS)

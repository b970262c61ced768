"""What became of a registered version, told in the retraining's words."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headgate.core.retraining.following import follow
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.core.rollout import PauseReason, Phase, Recovery, Rollout
from headgate.core.spec import RolloutSpec
from tests.core.retraining.making import NOW, proposed

P = RetrainingPhase


def registered(phase: RetrainingPhase = P.REGISTERED) -> Retraining:
    return replace(proposed(), phase=phase, version="7", validated=True)


def rollout(phase: Phase, **changes: Any) -> Rollout:
    found = Rollout(
        id="digits-v7-1",
        tenant="acme",
        model="digits",
        challenger="7",
        champion="1",
        spec=RolloutSpec(model="digits", tenant="acme"),
        phase=phase,
        created_at=NOW,
        phase_since=NOW,
        started_by="mlflow-alias",
    )
    return replace(found, **changes)


def cut(weight: float = 25.0) -> Recovery:
    return Recovery(3, NOW, "accuracy", "accuracy 0.80 < 0.85", Phase.PROGRESSING, weight)


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        (Phase.PENDING, P.ROLLING_OUT),
        (Phase.SHADOWING, P.ROLLING_OUT),
        (Phase.PROGRESSING, P.ROLLING_OUT),
        (Phase.PROMOTING, P.ROLLING_OUT),
        (Phase.WATCHING, P.WATCHING),
        (Phase.PROMOTED, P.PROMOTED),
        (Phase.ABORTED, P.CANCELLED),
        (Phase.SUPERSEDED, P.CANCELLED),
        (Phase.ROLLED_BACK, P.REFUSED),
    ],
)
@pytest.mark.parametrize("before", [P.REGISTERED, P.ROLLING_OUT])
def test_it_stands_where_its_rollout_stands(phase: Phase, expected: P, before: P) -> None:
    """AR-03."""
    after = follow(registered(before), [rollout(phase)], "7", NOW)

    assert (after.phase, after.rollout_id) == (expected, "digits-v7-1")
    assert after.said
    assert (after.ended_at is None) is after.live


def test_the_gates_refusal_is_named() -> None:
    """AR-02."""
    after = follow(registered(P.ROLLING_OUT), [rollout(Phase.ROLLED_BACK, recovery=cut())], None, NOW)

    assert after.phase is P.REFUSED
    assert "accuracy 0.80 < 0.85" in after.said
    assert "at 25 %" in after.said
    assert "version 1 serves" in after.said


def test_in_the_watch_it_is_taken_back_and_not_merely_refused() -> None:
    """AR-03."""
    undone = rollout(Phase.ROLLED_BACK, promoted_at=NOW, recovery=cut(100))
    after = follow(registered(P.WATCHING), [undone], None, NOW)

    assert after.phase is P.TAKEN_BACK
    assert "was taken back to version 1" in after.said


def test_while_it_is_being_taken_back_it_waits_for_the_end() -> None:
    after = follow(registered(P.WATCHING), [rollout(Phase.ROLLING_BACK, recovery=cut())], "7", NOW)

    assert after.phase is P.WATCHING
    assert "takes version 7 back" in after.said


def test_a_paused_rollout_says_what_it_waits_for() -> None:
    waiting = rollout(
        Phase.PAUSED, held=Phase.PROGRESSING, pause_reason=PauseReason.AWAITING_APPROVAL, weight_percent=5.0
    )
    after = follow(registered(), [waiting], "7", NOW)

    assert after.phase is P.ROLLING_OUT
    assert "awaiting_approval" in after.said


def test_a_paused_watch_is_still_the_watch() -> None:
    after = follow(registered(), [rollout(Phase.PAUSED, held=Phase.WATCHING)], "7", NOW)

    assert after.phase is P.WATCHING


def test_a_rollout_started_again_is_the_one_that_is_followed() -> None:
    """`headgate retry`: the newest counts."""
    again = rollout(Phase.PROGRESSING, id="digits-v7-2")
    after = follow(registered(P.ROLLING_OUT), [again, rollout(Phase.ABORTED)], "7", NOW)

    assert (after.phase, after.rollout_id) == (P.ROLLING_OUT, "digits-v7-2")


def test_before_its_rollout_begins_it_waits() -> None:
    assert follow(registered(), [], "7", NOW).phase is P.REGISTERED
    late = follow(registered(), [], "7", NOW + timedelta(days=1))
    assert late.phase is P.REGISTERED
    assert "no rollout has begun" in late.said


@pytest.mark.parametrize("holder", [None, "8"])
def test_an_alias_that_somebody_took_away_ends_it(holder: str | None) -> None:
    """Somebody else's challenger: said clearly, nothing is taken back from them."""
    after = follow(registered(), [], holder, NOW)

    assert after.phase is P.CANCELLED
    assert "took the alias" in after.said

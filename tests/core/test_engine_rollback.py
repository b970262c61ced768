"""The three stages of a rollback: traffic cut, champion back, recovery judged."""

from dataclasses import replace
from datetime import timedelta

import pytest

from headgate.core import engine
from headgate.core.rollout import EffectKind, Phase
from headgate.core.verdict import Outcome
from tests.core.engine_world import CALM, World, verdicts


def rolling_back() -> World:
    """A rollout just cut off at 25 percent, its registry write not delivered."""
    world = World().until(Phase.PAUSED, 25)
    world.now += timedelta(seconds=1)
    facts = world.facts(verdicts(world.rollout, accuracy=Outcome.CRITICAL))
    world.commit(engine.step(world.rollout, facts, world.now), expected=world.view)
    return world


def test_the_three_stages_follow_what_is_observed() -> None:
    """RB-05, RB-09, RB-12, RB-13, RB-19, RC-01, RC-02, EV-02: cut, champion back, recovered; each timed."""
    world = rolling_back()
    world.now += timedelta(seconds=2)
    world.commit(engine.step(world.rollout, world.facts(), world.now), expected=None)
    assert world.rollout.recovery is not None
    assert world.rollout.recovery.stage == 0
    world.deliver()
    world.look(after=1, recovery=replace(CALM, challenger_requests=2, champion_requests=9))
    assert world.rollout.recovery.stage == 1
    world.look(after=4, recovery=replace(CALM, champion_requests=3))
    assert world.rollout.recovery.stage == 2
    world.look(after=5)

    recovery = world.rollout.recovery
    assert (recovery.stage, recovery.status, recovery.score) == (3, "successful_recovery", 1.0)
    assert recovery.seconds == {"1": 3.0, "2": 4.0, "3": 5.0}
    assert sum(recovery.seconds.values()) <= 120
    assert world.rollout.outcome == "rolled_back"
    assert world.rollout.finished_at == world.now
    assert world.kinds() == [EffectKind.CLEAR_CACHE, EffectKind.RECORD_EVIDENCE, EffectKind.ALERT]
    assert world.results[-1].effects[0].detail == {"tiers": ["l1", "l2", "l3", "l4"]}
    assert world.results[-1].effects[1].detail == {"kind": "ab_testing_rollback"}


def test_all_stages_may_pass_in_one_look() -> None:
    world = rolling_back()
    world.deliver()
    world.look()

    assert world.rollout.phase is Phase.ROLLED_BACK
    assert world.rollout.recovery is not None
    assert world.rollout.recovery.seconds == {"1": 1.0, "2": 0.0, "3": 0.0}


@pytest.mark.parametrize(
    ("observed", "score"),
    [
        pytest.param(None, 0.0, id="nothing-measured"),
        pytest.param(replace(CALM, challenger_requests=1), 2 / 3, id="challenger-still-answers"),
        pytest.param(replace(CALM, champion_requests=19), 2 / 3, id="too-few-champion-requests"),
        pytest.param(replace(CALM, p95_ms=float("nan")), 2 / 3, id="nan-is-no-recovery"),
    ],
)
def test_a_timeout_without_proof_is_partial_recovery(observed: object, score: float) -> None:
    """RC-02: successful must be proven."""
    world = rolling_back()
    world.deliver()
    world.look(recovery=None)
    world.look(after=31, recovery=observed)

    assert world.rollout.recovery is not None
    assert world.rollout.phase is Phase.ROLLED_BACK
    assert world.rollout.recovery.status == "partial_recovery"
    assert world.rollout.recovery.score == pytest.approx(score)


def test_a_cut_that_does_not_show_is_told_once_with_the_manual_path() -> None:
    """RB-18."""
    world = rolling_back()
    for _ in range(4):
        world.look(after=20, registry=False)
    told = [text for text in world.alerts() if "the cut is not confirmed" in text]

    assert told == [
        "the cut is not confirmed: the registry can't be reached; set the alias champion to 1 by hand"
    ]
    assert world.rollout.phase is Phase.ROLLING_BACK
    world.look()
    world.look()
    assert world.rollout.phase is Phase.ROLLED_BACK


def test_a_cut_that_somebody_undoes_is_ordered_again() -> None:
    """RB-19: a rolled-back challenger gets no traffic by hand either, until the rollout has ended."""
    world = rolling_back()
    world.deliver()
    world.look(recovery=None)
    world.foreign(challenger="2")
    world.by_hand(30)
    world.look(recovery=None)

    assert world.rollout.recovery is not None
    assert world.rollout.recovery.stage == 0
    assert world.kinds() == [EffectKind.CUT_OFF, EffectKind.SYNC_REGISTRY]
    assert world.view.challenger is None
    world.look()
    assert world.rollout.phase is Phase.ROLLED_BACK


def test_a_lost_write_is_ordered_again() -> None:
    world = rolling_back()
    world.outbox.clear()
    world.look(after=1, recovery=None)
    assert world.view.challenger == "2"
    world.look(after=5, recovery=None)

    assert world.view.challenger is None


def test_a_rollback_leaves_a_champion_that_a_person_chose() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(champion="9")
    world.look()
    world.look(verdicts(world.rollout, accuracy=Outcome.CRITICAL))

    assert world.rollout.champion == "9"
    assert world.view.champion == "9"
    assert world.view.challenger is None


def test_a_champion_chosen_during_the_rollback_stays_too() -> None:
    world = rolling_back()
    world.foreign(champion="9")
    world.deliver()
    world.look(recovery=None)
    world.look()

    assert (world.rollout.champion, world.view.champion) == ("9", "9")
    assert world.rollout.phase is Phase.ROLLED_BACK
    assert any("made version 9 champion" in text for text in world.alerts())


def test_a_rollback_takes_the_champion_alias_back_from_the_challenger() -> None:
    world = World().until(Phase.PROGRESSING, 25)
    world.foreign(champion="2")
    world.look()
    world.look(verdicts(world.rollout, accuracy=Outcome.CRITICAL))

    assert world.view.champion == "1"


def test_an_unfinished_rollback_without_record_still_ends() -> None:
    world = rolling_back()
    world.deliver()
    world.rollout = replace(world.rollout, recovery=None)
    world.look()
    world.look()

    assert world.rollout.phase is Phase.ROLLED_BACK

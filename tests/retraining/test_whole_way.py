"""From drift to a challenger with a rollout, with real data, a real trainer, a real registry; and where it ends before."""

import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from headgate import triggers
from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.retraining import machine
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.core.words import Verb
from headgate.retraining import working
from headgate.retraining.advancing import advance
from headgate.retraining.proposing import propose
from headgate.retraining.surroundings import look
from headgate.retraining.telling import story
from headgate.verbs import act
from tests.retraining.world import NOW, TENANT, World, copying

P = RetrainingPhase


def proposed(world: World) -> Retraining:
    [proposal] = propose(world.services, NOW)
    assert proposal.retraining is not None, proposal.sentence
    return proposal.retraining


def test_confirmed_drift_becomes_a_challenger_and_its_rollout_is_followed(
    world: World, candidate: Path
) -> None:
    """AR-01, AR-02, AR-03, AR-08; issue 5: killed between the version and its record, it is not registered twice."""
    world.apply(retrain=copying(candidate))
    one = advance(world.services, proposed(world).id, NOW, phases={P.PROPOSED, P.APPROVED})
    assert one.phase is P.VALIDATING, one.said
    registered = advance(world.services, one.id, NOW)
    assert registered.phase is P.REGISTERED, registered.said
    assert world.versions() == ["1", "2"]
    assert world.services.registry.view(world.model).challenger == "2"

    # As if the process had been killed with the version made and the record of it not written.
    before = replace(registered, phase=P.VALIDATING, version=None)
    killed = world.store.move_retraining(registered, before, actor="test")
    assert triggers.start_by_alias(world.services, triggers.Told()) == 1
    again = advance(world.services, killed.id, NOW, phases={P.VALIDATING})
    assert (again.phase, again.version) == (P.REGISTERED, "2")
    assert world.versions() == ["1", "2"]

    followed = advance(world.services, one.id, NOW)
    assert followed.phase is P.ROLLING_OUT
    assert followed.rollout_id is not None
    assert world.store.get(followed.rollout_id).tenant == TENANT
    act(world.services, followed.rollout_id, Verb.ABORT, actor="anna", reason="not now")
    ended = advance(world.services, one.id, NOW)
    assert ended.phase is P.CANCELLED
    assert "version 1 serves" in ended.said
    assert "## Validation" in story(ended)
    assert not working.folder_of(world.services, ended).exists()
    assert world.store.verify().verified


@pytest.mark.slow
def test_a_candidate_below_the_floor_is_refused_and_no_version_is_made(world: World) -> None:
    """AR-02; with the trainer that ships as an example."""
    world.apply(validation={"minPrAuc": 0.9999})
    one = advance(world.services, proposed(world).id, NOW)

    assert one.phase is P.REFUSED, one.said
    assert "pr_auc" in [each["name"] for each in one.validation if not each["passed"]]
    assert world.versions() == ["1"]
    assert world.services.registry.view(world.model).challenger is None


def test_a_trainer_that_crashes_ends_in_failed_with_its_log(world: World) -> None:
    """Issue 5."""
    world.apply(retrain={"trainer": {"command": ["python", "-c", "print('no disk'); raise SystemExit(3)"]}})
    one = advance(world.services, proposed(world).id, NOW)

    assert one.phase is P.FAILED, one.said
    assert "the champion serves" in one.said
    assert "no disk" in one.training["log_tail"]
    assert "no disk" in story(one)
    assert world.versions() == ["1"]


def test_too_few_labels_are_refused(world: World) -> None:
    """Issue 5: labels never arrive."""
    with world.store.db.cursor() as cursor:
        cursor.execute("UPDATE predictions SET label = NULL, labelled_at = NULL")
    one = advance(world.services, proposed(world).id, NOW)

    assert one.phase is P.REFUSED, one.said
    assert "too little clean data" in one.said


def test_the_flag_switched_off_ends_a_training_within_seconds(world: World) -> None:
    """AR-04: at once, without a deployment."""
    world.apply(retrain={"trainer": {"command": ["python", "-c", "import time; time.sleep(600)"]}})
    one, ends = proposed(world), list[Retraining]()
    worker = threading.Thread(target=lambda: ends.append(advance(world.services, one.id, NOW)))
    worker.start()
    while world.store.retraining(one.id).phase is not P.TRAINING:
        time.sleep(0.05)
    assert advance(world.services, one.id, NOW).phase is P.TRAINING, "two at it"
    world.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=False, actor="anna")
    worker.join(60)

    assert not worker.is_alive()
    assert ends[0].phase is P.CANCELLED
    assert "ENABLE_AUTO_RETRAIN is off" in ends[0].said


def test_somebody_elses_challenger_is_waited_for_and_then_given_up(world: World, champion_run: str) -> None:
    """Issue 5: never beside another one."""
    one = advance(world.services, proposed(world).id, NOW, phases={P.PROPOSED})
    world.make_version(champion_run, "challenger")

    waits = advance(world.services, one.id, NOW)
    assert (waits.phase, waits.attempts) == (P.APPROVED, 0)
    assert "version 2 holds the alias" in waits.said
    over = advance(world.services, one.id, NOW + machine.MAX_WAIT + timedelta(seconds=1))
    assert over.phase is P.REFUSED
    assert world.services.registry.view(world.model).challenger == "2"


def test_the_circumstances_are_those_of_the_moment(world: World) -> None:
    """What stands in the way is read anew at every step."""
    spec = world.store.monitoring_spec(TENANT, world.model)
    assert spec is not None
    seen = look(world.services, spec, NOW)

    assert (seen.champion, seen.challenger, seen.flag, seen.registry_read) == ("1", None, True, True)
    assert len(seen.reports) == 7
    assert len(look(world.services, spec, NOW - timedelta(days=3)).reports) == 5

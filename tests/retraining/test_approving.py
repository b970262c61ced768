"""A person's leave: asked for, given, refused, run out; and calling a retraining off."""

from datetime import timedelta

import pytest

from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.errors import BadRequestError, ConflictError, IllegalVerbError, NotFoundError
from headgate.retraining import asking, working
from headgate.retraining.advancing import LIGHT, advance, advance_all
from headgate.retraining.proposing import propose, retrain
from headgate.retraining.status import retraining_json
from headgate.retraining.telling import artifact_key, story
from tests.retraining.world import NOW, TENANT, World, write_reports

P = RetrainingPhase


def waiting(world: World) -> Retraining:
    """Critical drift of one day: it asks."""
    write_reports(
        world.store, world.model, days=1, severity="critical", recommendation="retrain_with_approval"
    )
    [proposal] = propose(world.services, NOW)
    assert proposal.retraining is not None
    one = advance(world.services, proposal.retraining.id, NOW, phases=LIGHT)
    assert one.phase is P.AWAITING_APPROVAL
    return one


def alerts(world: World) -> list[tuple[str, str]]:
    found = world.store.open_alerts([(TENANT, world.model)]).get((TENANT, world.model), [])
    return [(alert.cause, alert.detail["phase"]) for alert in found]


def test_critical_drift_asks_and_without_an_answer_nothing_changes(quiet: World) -> None:
    """AR-05, C21."""
    one = waiting(quiet)
    assert alerts(quiet) == [(f"retraining:{one.id}", "awaiting_approval")]

    [same] = advance_all(quiet.services, NOW + timedelta(hours=23))
    assert (same.phase, same.revision) == (P.AWAITING_APPROVAL, one.revision)
    [late] = advance_all(quiet.services, NOW + timedelta(hours=24))
    assert late.phase is P.EXPIRED
    assert "the champion serves" in late.said
    assert alerts(quiet) == [(f"retraining:{one.id}", "expired")]
    assert quiet.versions() == ["1"]


def test_a_yes_lets_it_go_on_and_the_same_yes_again_changes_nothing(quiet: World) -> None:
    """AR-05."""
    one = waiting(quiet)
    given = asking.decide(quiet.services, one.id, "approve", by="maria", via="cli", reason="seen", now=NOW)
    again = asking.decide(quiet.services, one.id, "approve", by="maria", via="cli", now=NOW)

    assert given.phase is P.APPROVED
    assert again == given
    assert alerts(quiet) == []
    with pytest.raises(IllegalVerbError):
        asking.decide(quiet.services, one.id, "decline", by="ben", via="cli", now=NOW)


def test_a_no_ends_it(quiet: World) -> None:
    """AR-05."""
    one = waiting(quiet)
    after = asking.decide(quiet.services, one.id, "decline", by="maria", via="cli", reason="holiday", now=NOW)

    assert after.phase is P.DECLINED
    assert "declined by maria via cli: holiday" in after.said


def test_an_answer_after_its_time_is_refused(quiet: World) -> None:
    one = waiting(quiet)

    with pytest.raises(ConflictError):
        asking.decide(quiet.services, one.id, "approve", by="maria", via="cli", now=NOW + timedelta(days=2))
    assert quiet.store.retraining(one.id).phase is P.AWAITING_APPROVAL


def test_called_off_it_ends_and_twice_is_once(quiet: World) -> None:
    one = waiting(quiet)
    folder = working.folder_of(quiet.services, one)
    folder.mkdir(parents=True)
    first = asking.cancel(quiet.services, one.id, by="anna", reason="not now", now=NOW)

    assert not folder.exists()
    assert asking.cancel(quiet.services, one.id, by="anna", now=NOW) == first
    assert first.phase is P.CANCELLED
    with pytest.raises(NotFoundError):
        asking.cancel(quiet.services, "nothing", by="anna")


def test_nobody_asks_without_a_name(quiet: World) -> None:
    with pytest.raises(BadRequestError, match="actor"):
        retrain(quiet.services, quiet.model, TENANT, actor=" ", reason="")


def test_a_retraining_is_found_by_its_id_or_its_model(quiet: World) -> None:
    one = waiting(quiet)

    assert asking.find(quiet.services, one.id).id == asking.find(quiet.services, quiet.model).id == one.id
    with pytest.raises(NotFoundError):
        asking.find(quiet.services, "nothing")


def test_its_story_and_its_json_tell_everything(quiet: World) -> None:
    """API-21, AR-01: the safeguards are shown."""
    one = waiting(quiet)
    told, plain = story(one), retraining_json(one)

    assert "asks a person" in told
    assert all(f"| {each.name} |" in told for each in one.safeguards)
    assert plain["approval"]["decision"] is None
    assert plain["legal_verbs"] == ["approve", "decline", "cancel"]
    assert artifact_key(one).startswith("retraining-acme-")

"""The sweep over a fleet: one broken rollout, outages, who sweeps."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from flows.watch_rollouts import watch_rollouts
from headgate import verbs
from headgate.core.rollout import Decision, Phase, Rollout
from headgate.core.verdict import Check, Outcome
from headgate.fleet import decide_fleet, judge_fleet, judge_shadows, read_fleet, weigh_fleet
from headgate.services import Services
from headgate.settings import Settings
from headgate.watch import Watch, utc_now
from tests.flows.conftest import World, quick_spec, step

pytestmark = pytest.mark.stack
LONG = [step(5, "1h"), step(100)]


def started(world: World, model: str) -> Rollout:
    return verbs.start(world.services, quick_spec(model, steps=LONG), "2", actor="anna")


def break_state(services: Services, rollout: Rollout, path: str, value: str) -> None:
    """Damage one rollout's stored state, as a bug or a hand would."""
    change = sa.text(
        "UPDATE rollouts SET state = jsonb_set(state, CAST(:path AS text[]), CAST(:value AS jsonb)) WHERE id = :id"
    )
    with services.store.db.transaction() as connection:
        connection.execute(change, {"path": path, "value": value, "id": rollout.id})


def test_a_rollout_whose_thresholds_break_does_not_stop_the_others(
    world: World, make_model: Callable[[], str]
) -> None:
    """MN-01, MN-02: a profile that no longer knows a limit, say, after an upgrade."""
    good, broken = started(world, make_model()), started(world, make_model())
    break_state(world.services, broken, "{spec,overrides}", '{"latency": {"no_such_limit": 1}}')

    world.sweep(2)

    assert world.get(good).phase is Phase.PROGRESSING


def test_a_rollout_that_can_not_even_be_read_does_not_stop_the_others(
    world: World, make_model: Callable[[], str]
) -> None:
    """MN-02."""
    good, broken = started(world, make_model()), started(world, make_model())
    break_state(world.services, broken, "{phase}", '"no such phase"')

    world.sweep(2)

    assert world.get(good).phase is Phase.PROGRESSING


def test_an_unreadable_rollout_that_owes_effects_and_has_a_spec_does_not_stop_the_others(
    world: World, make_model: Callable[[], str]
) -> None:
    """MN-02: neither its outbox nor its model's alias `challenger` ends the sweep."""
    good, broken = started(world, make_model()), started(world, make_model())
    verbs.apply_spec(world.services, quick_spec(broken.model, steps=LONG), actor="anna")
    with world.services.store.db.transaction() as connection:
        again = sa.text("UPDATE outbox SET done_at = NULL WHERE rollout_id = :id")
        connection.execute(again, {"id": broken.id})
    break_state(world.services, broken, "{phase}", '"no such phase"')

    world.sweep(2)

    assert world.get(good).phase is Phase.PROGRESSING
    assert world.services.store.has_pending([broken.id]) == {broken.id}


def test_a_check_that_breaks_is_that_rollouts_error_verdict_only(
    world: World, make_model: Callable[[], str]
) -> None:
    """MN-02: an exception in one judgement."""
    good, broken = started(world, make_model()), started(world, make_model())
    fleet = read_fleet(
        world.services, [replace(one, phase=Phase.PROGRESSING) for one in (good, broken)], utc_now()
    )
    fleet.evidence[broken.id] = None  # type: ignore[assignment]

    judgement = judge_fleet(fleet, Check.ERROR_RATE)

    assert judgement.verdicts[broken.id].outcome is Outcome.ERROR
    assert judgement.verdicts[good.id].outcome is Outcome.INSUFFICIENT_DATA


def test_a_guarded_rollout_whose_tests_memory_is_unreadable_is_in_error_and_never_quiet(
    world: World, make_model: Callable[[], str]
) -> None:
    """Harm can't be confirmed there; verdicts in error are counted, and people are told."""
    good, broken = started(world, make_model()), started(world, make_model())
    spoil = sa.text(
        "INSERT INTO evidence_state (rollout_id, segment, counted_until, label_seq, state, updated_at)"
        " VALUES (:id, '', now(), 0, 'no state', now())"
    )
    with world.services.store.db.transaction() as connection:
        connection.execute(spoil, {"id": broken.id})
    guarded = [
        replace(one, phase=Phase.PROGRESSING, spec=one.spec.model_copy(update={"decision": "guarded"}))
        for one in (good, broken)
    ]
    fleet = read_fleet(world.services, guarded, utc_now())
    weigh_fleet(world.services, fleet)
    judgement = judge_fleet(fleet, Check.ERROR_RATE)

    assert judgement.verdicts[broken.id].outcome is Outcome.ERROR
    assert "can't be read" in judgement.verdicts[broken.id].reason
    assert judgement.verdicts[good.id].outcome is Outcome.INSUFFICIENT_DATA


def test_a_model_whose_registry_entry_is_gone_holds_alone(
    world: World, make_model: Callable[[], str], mlflow_client: object
) -> None:
    """MN-02: the registry can't be read for one model."""
    good, broken = started(world, make_model()), started(world, make_model())
    mlflow_client.delete_registered_model(broken.model)  # type: ignore[attr-defined]

    world.sweep(2)

    assert world.get(good).phase is Phase.PROGRESSING
    assert world.get(broken).phase is Phase.PENDING


def test_with_the_registry_away_nothing_moves_forward(world: World, model: str) -> None:
    """RP-06: unknown never passes."""
    rollout = started(world, model)
    away = Services(
        Settings(
            home=world.services.settings.home,
            database_url=world.services.settings.required("database_url"),
            mlflow_uri="http://127.0.0.1:9",
        )
    )
    fleet = read_fleet(away, [rollout], utc_now())
    plan = decide_fleet(fleet, [*(judge_fleet(fleet, check) for check in Check), judge_shadows(fleet)])
    away.close()

    assert [move.result.ruling.decision for move in plan.quiet] == [Decision.HOLD]
    assert plan.moves == []


def test_a_sweep_survives_postgresql_being_away(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """MN-02: it says so, holds, and takes the lock anew."""
    watch = Watch(world.services, 0.0, 1.0)
    assert watch.begin()
    address = world.services.store.db.url
    with caplog.at_level(logging.ERROR), watch.holding():
        from headgate.errors import StoreUnavailableError

        raise StoreUnavailableError(address, "gone")

    assert "the sweep holds" in caplog.text
    watch.end()


def test_a_second_sweeper_ends_at_once_as_already_watched(world: World) -> None:
    """MN-01: one sweeper, by PostgreSQL's lock."""
    assert world.watch.begin()
    state = watch_rollouts(run_for_s=5, interval_s=1, return_state=True)
    world.watch.end()

    assert state.is_completed()
    assert state.message == "already watched"


def test_a_watch_past_its_time_hands_over_to_the_newcomer_that_knocks(world: World) -> None:
    """MN-01: without a gap, and only then."""
    old, new = Watch(world.services, 0.0, 1.0), Watch(world.services, 60, 1)
    assert old.begin()
    old.wait()
    assert not old.is_over

    world.services.store.notify("headgate_watch", "newcomer")
    old.wait()
    assert old.is_over
    old.end()

    assert new.begin()
    new.end()


def test_a_nudge_makes_a_rollout_due_at_once(world: World, model: str) -> None:
    """MN-01: and otherwise it is judged by its own interval."""
    spec = quick_spec(model, steps=LONG, analysis={"interval": "1h"})
    rollout = verbs.start(world.services, spec, "2", actor="anna")
    world.sweep(2)
    watch = Watch(world.services, 60, 1)
    assert [one.id for one in watch.due()] == [rollout.id]
    watch.wait()
    assert watch.due() == []

    world.services.store.notify("headgate_nudge", rollout.id)
    watch.wait()

    assert [one.id for one in watch.due()] == [rollout.id]

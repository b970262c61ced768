"""Which models are trained again, why, and why not: over a real store and registry."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.retraining.state import Retraining, RetrainingPhase
from headgate.core.spec import RolloutSpec
from headgate.errors import ConflictError, NotFoundError
from headgate.retraining.proposing import Proposal, propose, retrain, retraining_triggers
from headgate.retraining.telling import proposals_table
from headgate.services import Services
from headgate.settings import Settings
from tests.retraining.world import NOW, TENANT, YESTERDAY, World, monitoring, write_reports

P = RetrainingPhase


def only(proposals: list[Proposal]) -> Proposal:
    [proposal] = proposals
    return proposal


def test_drift_of_a_week_is_proposed_and_once(quiet: World) -> None:
    """AR-01, DR-07."""
    first = only(propose(quiet.services, NOW)).retraining
    second = only(propose(quiet.services, NOW)).retraining

    assert isinstance(first, Retraining)
    assert second == first
    assert (first.phase, first.trigger, first.causes, first.report_day) == (
        P.PROPOSED,
        "drift",
        ("column:amount",),
        YESTERDAY,
    )
    assert quiet.store.verify().verified


def test_figures_only_and_alerts_only_retrain_nothing(quiet: World) -> None:
    """AR-11, AR-12, SM-01."""
    for mode in ("collect", "alert"):
        quiet.apply(mode=mode)
        assert propose(quiet.services, NOW) == []
    assert quiet.store.retrainings() == []


def test_without_the_flag_nothing_is_proposed_and_the_sentence_says_how_to(quiet: World) -> None:
    """AR-04."""
    quiet.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=False, actor="anna")
    found = only(propose(quiet.services, NOW))

    assert found.retraining is None
    assert "headgate flag set ENABLE_AUTO_RETRAIN on" in found.sentence
    assert found.sentence in proposals_table([found])


def test_one_tenant_is_switched_off_by_itself(quiet: World) -> None:
    """MT-02."""
    quiet.store.switch_flags([f"{AUTO_RETRAIN_FLAG}:{TENANT}"], enabled=False, actor="anna")

    assert only(propose(quiet.services, NOW)).retraining is None


def test_a_broken_pipeline_is_never_trained_on(quiet: World) -> None:
    """Issue 5."""
    write_reports(quiet.store, quiet.model, days=1, recommendation="investigate_pipeline")
    found = only(propose(quiet.services, NOW))

    assert found.retraining is None
    with pytest.raises(ConflictError, match="pipeline"):
        retrain(quiet.services, quiet.model, TENANT, actor="anna", reason="", anyway=True, now=NOW)


def test_each_end_begins_a_cooldown(quiet: World) -> None:
    """AR-01, C19."""
    one = only(propose(quiet.services, NOW)).retraining
    assert one is not None
    over = replace(one, phase=P.DECLINED, ended_at=NOW, said="declined")
    quiet.store.move_retraining(one, over, actor="anna")

    later = only(propose(quiet.services, NOW + timedelta(hours=1)))
    assert later.retraining is None
    assert "cooldown" in later.sentence


def test_a_live_rollout_of_the_model_comes_first(quiet: World, champion_run: str) -> None:
    """Issue 5: also a challenger that somebody has just named."""
    quiet.make_version(champion_run, "challenger")

    assert "version 2 holds the alias" in only(propose(quiet.services, NOW)).sentence


def test_the_pilot_goes_first(quiet: World) -> None:
    """AR-09, MT-02."""
    pilot = {"pilotTenants": ["pilot", f"{TENANT}/{quiet.model}"]}
    quiet.apply(retrain=pilot)
    assert only(propose(quiet.services, NOW)).retraining is not None

    other = monitoring(quiet.model, "other", retrain={"pilotTenants": [TENANT]})
    quiet.store.save_monitoring_spec(other, actor="test")
    write_reports(quiet.store, quiet.model, "other")
    found = {one.tenant: one for one in propose(quiet.services, NOW)}
    assert "pilots come first" in found["other"].sentence


def test_a_watch_that_is_too_short_is_refused_unless_it_is_meant(quiet: World) -> None:
    """AR-03."""
    short: Any = {"duration": timedelta(minutes=5)}
    quiet.store.save_spec(RolloutSpec(model=quiet.model, tenant=TENANT, watch=short), actor="test")
    assert "watch.duration, retrain.minWatch" in only(propose(quiet.services, NOW)).sentence

    quiet.apply(retrain={"minWatch": "5m"})
    assert only(propose(quiet.services, NOW)).retraining is not None


def test_a_rollout_spec_that_leaves_rollbacks_to_people_is_refused(quiet: World) -> None:
    """AR-03: the undo must be automatic."""
    plain = RolloutSpec(model=quiet.model, tenant=TENANT, environment="prod")
    quiet.store.save_spec(plain, actor="test")
    automatic = only(propose(quiet.services, NOW)).retraining is not None
    quiet.store.save_spec(RolloutSpec(model=quiet.model, tenant=TENANT, environment="dev"), actor="test")
    left_to_people = retraining_triggers(quiet.services, quiet.model, TENANT, NOW)

    watch = next(one for one in left_to_people["safeguards"] if one["name"] == "watch")
    assert automatic
    assert watch["in_the_way"], watch


def test_by_hand_it_needs_no_flag_no_week_and_no_pause(quiet: World) -> None:
    """AR-06."""
    quiet.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=False, actor="anna")
    one = retrain(quiet.services, quiet.model, TENANT, actor="anna", reason="new labels", now=NOW)

    assert (one.trigger, one.requested_by, one.reason) == ("manual", "anna", "new labels")
    assert {each.name for each in one.safeguards if each.stand == "waived"} >= {
        "flag",
        "confirmation",
        "cooldown",
    }
    with pytest.raises(ConflictError, match=one.id):
        retrain(quiet.services, quiet.model, TENANT, actor="ben", reason="me too", now=NOW)


def test_by_hand_against_the_mode_must_be_said(quiet: World) -> None:
    """AR-06, AR-11."""
    quiet.apply(mode="alert")
    with pytest.raises(ConflictError, match="--anyway"):
        retrain(quiet.services, quiet.model, TENANT, actor="anna", reason="", now=NOW)

    assert retrain(quiet.services, quiet.model, TENANT, actor="anna", reason="", anyway=True, now=NOW).anyway


def test_a_model_nobody_watches_is_not_found(quiet: World) -> None:
    with pytest.raises(NotFoundError, match="headgate monitor apply"):
        retrain(quiet.services, "nothing", TENANT, actor="anna", reason="", now=NOW)


def test_triggers_and_safeguards_are_told_as_json(quiet: World) -> None:
    """AR-07, API-21."""
    found = retraining_triggers(quiet.services, quiet.model, TENANT, NOW)

    assert [(one["name"], one["holds"]) for one in found["triggers"]] == [
        ("performance", False),
        ("drift", True),
        ("schedule", False),
    ]
    assert (found["would_retrain"], found["asks_a_person"], found["retraining"]) == (True, False, None)
    assert len(found["safeguards"]) == 13


def test_with_mlflow_away_nothing_is_proposed(quiet: World) -> None:
    """What can't be read never passes."""
    known = quiet.services.settings
    away: Any = {
        "home": known.home,
        "database_url": known.required("database_url"),
        "mlflow_uri": "http://127.0.0.1:9",
        "registry_timeout_s": 1,
    }
    with Services(Settings(**away)) as services:
        assert "MLflow can't be reached" in only(propose(services, NOW)).sentence


def test_a_fleet_is_read_at_once_and_each_model_judged_by_itself(quiet: World) -> None:
    """MT-01: one with drift among many without."""
    for number in range(30):
        name = f"{quiet.model}-{number}"
        quiet.store.save_monitoring_spec(monitoring(name, f"t{number}"), actor="test")
        write_reports(quiet.store, name, f"t{number}", status="no_drift", causes=(), recommendation="none")
    found = propose(quiet.services, NOW)

    assert len(found) == 31
    assert [one.model for one in found if one.retraining] == [quiet.model]

"""Each safeguard alone, and that each alone is enough to stop a retraining."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from headgate.core.retraining.circumstances import Ask, Circumstances, Pilot, ReleasePlan
from headgate.core.retraining.safeguards import RULES, judge_safeguards
from headgate.core.retraining.state import Consent, Safeguard, Trigger
from tests.core.retraining.making import NOW, YESTERDAY, Told, ask, good, reports, spec

BY_HAND = Ask(Trigger.MANUAL, "anna")
PILOTS = spec(pilot_tenants=("first",))
CRITICAL = reports(1, severity="critical", recommendation="retrain_with_approval")

IN_THE_WAY: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "the flag was never set": ("flag", {"flag": None}),
    "the flag is off": ("flag", {"flag": False}),
    "the tenant's own flag is off": ("flag", {"tenant_flag": False}),
    "figures only": ("mode", {"spec": spec("collect")}),
    "alerts only": ("mode", {"spec": spec("alert")}),
    "no trainer": ("trainer", {"spec": spec("alert", trainer=None)}),
    "six days": ("confirmation", {"reports": reports(6)}),
    "another cause": ("confirmation", {"reports": reports(7, causes=("column:income",))}),
    "just retrained": ("cooldown", {"last_ended": NOW - timedelta(days=6)}),
    "one is live": ("one_at_a_time", {"live": "acme-digits-r0"}),
    "no pilot yet": ("pilot", {"spec": PILOTS}),
    "the pilot is young": ("pilot", {"spec": PILOTS, "pilot": Pilot(NOW - timedelta(days=13))}),
    "the pilot was taken back": (
        "pilot",
        {"spec": PILOTS, "pilot": Pilot(NOW - timedelta(days=30), NOW - timedelta(days=20))},
    ),
    "a broken pipeline": ("pipeline", {"reports": reports(7, recommendation="investigate_pipeline")}),
    "stop": ("pipeline", {"reports": reports(7, recommendation="stop_training")}),
    "an unknown word": ("pipeline", {"reports": reports(7, recommendation="hm")}),
    "nobody has looked": ("pipeline", {"reports": ()}),
    "the newest report is old": ("pipeline", {"reports": reports(7)[:4]}),
    "nothing clean": ("quarantine", {"quarantined": [(date(2025, 1, 1), date(2027, 1, 1))]}),
    "a rollout is live": ("no_rollout", {"rollout": "digits-v2-1"}),
    "somebody's challenger": ("no_rollout", {"challenger": "2"}),
    "no champion": ("no_rollout", {"champion": None}),
    "MLflow is away": ("no_rollout", {"registry_read": False}),
    "nothing would release it": ("watch", {"releases": ()}),
    "a short watch": ("watch", {"releases": (ReleasePlan("acme", timedelta(hours=23)),)}),
    "a watch that only recommends": (
        "watch",
        {"releases": (ReleasePlan("acme", timedelta(hours=24), automatic=False),)},
    ),
}


def stands(asked: Ask, seen: Circumstances) -> dict[str, Safeguard]:
    return {one.name: one for one in judge_safeguards(asked, seen)}


def test_with_nothing_in_the_way_each_says_why() -> None:
    """AR-01."""
    found = judge_safeguards(ask(), good())

    assert [one.name for one in found] == list(RULES)
    assert not [one for one in found if one.in_the_way]
    assert all(len(one.sentence) > 10 for one in found if one.name != "mode")


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_each_safeguard_alone_stops_it(case: str) -> None:
    """AR-01, AR-03, AR-04, AR-09, DR-07."""
    name, changes = IN_THE_WAY[case]
    found = stands(ask(), good(**changes))

    assert found[name].in_the_way, found[name]
    assert name in {one.name for one in found.values() if one.in_the_way}


@pytest.mark.parametrize("first", ["the flag is off", "six days", "a rollout is live"])
@pytest.mark.parametrize("second", ["just retrained", "a broken pipeline", "a short watch", "no pilot yet"])
def test_together_each_still_speaks_for_itself(first: str, second: str) -> None:
    """AR-01: one that stops hides no other."""
    changes = dict(IN_THE_WAY[first][1]) | dict(IN_THE_WAY[second][1])
    found = stands(ask(), good(**changes))

    assert found[IN_THE_WAY[second][0]].in_the_way
    assert found[IN_THE_WAY[first][0]].in_the_way or "reports" in IN_THE_WAY[second][1]


def test_an_unknown_stand_blocks() -> None:
    assert Safeguard("flag", "fine", "?").in_the_way  # type: ignore[arg-type]


@pytest.mark.parametrize("severity", ["critical", "catastrophic", ""])
def test_critical_drift_asks_a_person_even_in_mode_automatic(severity: str) -> None:
    """AR-05; a severity nobody knows is taken for the worst."""
    found = stands(ask(severity=severity), good())

    assert found["approval"].stand == "asks"


def test_drift_that_turned_critical_since_asks_a_person() -> None:
    """AR-05: the newest report counts too."""
    assert stands(ask(severity="high"), good(reports=[*reports(6), *CRITICAL]))["approval"].stand == "asks"


def test_critical_drift_is_not_waited_for() -> None:
    """C18: at once, but allowed by a person."""
    found = stands(ask(severity="critical"), good(reports=CRITICAL))

    assert (found["confirmation"].stand, found["approval"].stand) == ("waived", "asks")


def test_mode_approve_asks_each_time_and_a_yes_answers() -> None:
    """AR-05, S4:68."""
    seen = good(spec=spec("approve"))
    yes = Consent(NOW, NOW + timedelta(hours=24), "approve", "maria", NOW, "cli")

    assert stands(ask(), seen)["approval"].stand == "asks"
    assert stands(ask(consent=yes), seen)["approval"].stand == "clear"
    assert stands(ask(consent=replace(yes, by="")), seen)["approval"].stand == "asks"
    assert stands(ask(consent=replace(yes, decision="decline")), seen)["approval"].stand == "asks"


def test_by_hand_skips_flag_confirmation_cooldown_and_approval_and_nothing_else() -> None:
    """AR-06."""
    seen = good(flag=None, reports=CRITICAL, last_ended=NOW - timedelta(hours=1))
    found = stands(BY_HAND, seen)

    waived = {name for name, one in found.items() if one.stand == "waived"}
    assert waived == {"flag", "confirmation", "cooldown", "approval"}
    for case in (
        "one is live",
        "a rollout is live",
        "a broken pipeline",
        "a short watch",
        "no trainer",
        "nothing clean",
    ):
        name, changes = IN_THE_WAY[case]
        assert stands(replace(BY_HAND, anyway=True), good(**changes))[name].in_the_way, case


def test_by_hand_a_mode_that_retrains_nothing_and_pilots_must_be_overruled_explicitly() -> None:
    """AR-06, AR-09, AR-11, AR-12."""
    for changes in ({"spec": spec("alert")}, {"spec": spec("collect")}, {"spec": PILOTS}):
        name = "pilot" if changes["spec"] is PILOTS else "mode"
        assert stands(BY_HAND, good(**changes))[name].in_the_way
        assert stands(replace(BY_HAND, anyway=True), good(**changes))[name].stand == "waived"


def test_by_hand_no_report_is_needed() -> None:
    """AR-06: a model whose drift nobody judges may still be trained again by a person."""
    assert stands(BY_HAND, good(reports=()))["pipeline"].stand == "waived"


def test_the_tenants_own_flag_counts_only_once_it_was_set() -> None:
    """AR-04, MT-02."""
    assert not stands(ask(), good(tenant_flag=None))["flag"].in_the_way
    assert not stands(ask(), good(tenant_flag=True))["flag"].in_the_way
    assert stands(ask(), good(flag=False, tenant_flag=True))["flag"].in_the_way


def test_pilots_go_first_and_the_others_follow_after_fourteen_days() -> None:
    """AR-09, C20."""
    pilot = spec(pilot_tenants=("acme",))
    own_model = spec(pilot_tenants=("acme/digits",))

    assert not stands(ask(), good(spec=pilot))["pilot"].in_the_way
    assert not stands(ask(), good(spec=own_model))["pilot"].in_the_way
    soaked = Pilot(NOW - timedelta(days=14))
    assert not stands(ask(), good(spec=PILOTS, pilot=soaked))["pilot"].in_the_way


def test_days_in_quarantine_are_counted_and_kept_out() -> None:
    """Issue 5: never train on what a broken pipeline wrote."""
    windows = [(YESTERDAY - timedelta(days=2), YESTERDAY), (date(2020, 1, 1), date(2020, 1, 9))]
    found = stands(ask(), good(quarantined=windows))["quarantine"]

    assert found.stand == "clear"
    assert "3 of the last 91 days" in found.sentence


def test_days_quarantined_after_the_data_were_cut_stop_the_candidate() -> None:
    """Issue 5: it has learnt from them."""
    window = (YESTERDAY, YESTERDAY)
    learnt = ask(learnt_from=(YESTERDAY - timedelta(days=30), YESTERDAY))

    assert stands(learnt, good(quarantined=[window]))["quarantine"].in_the_way
    known = replace(learnt, kept_out=(window,))
    assert not stands(known, good(quarantined=[window]))["quarantine"].in_the_way


def test_the_monitoring_spec_may_allow_a_shorter_watch_explicitly() -> None:
    """AR-03."""
    seen = good(
        spec=spec(min_watch=timedelta(minutes=5)), releases=(ReleasePlan("acme", timedelta(minutes=5)),)
    )

    assert stands(ask(), seen)["watch"].stand == "clear"


def test_every_spec_of_the_model_counts_for_the_watch() -> None:
    """AR-03: aliases are the model's, whoever's spec starts the rollout."""
    both = (ReleasePlan("acme", timedelta(hours=24)), ReleasePlan("other", timedelta(hours=1)))

    assert stands(ask(), good(releases=both))["watch"].in_the_way


def test_a_report_of_another_kind_than_drift_is_still_a_look_at_the_data() -> None:
    quiet = (Told(YESTERDAY, "no_drift", "none", (), "none"),)

    assert stands(ask(Trigger.SCHEDULE), good(reports=quiet))["pipeline"].stand == "clear"

"""What holds for every sequence of verdicts, verbs, ticks, duplicates, outages, foreign changes and restarts."""

from dataclasses import replace
from datetime import timedelta

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate.core import engine
from headgate.core.rollout import (
    Facts,
    PauseReason,
    Phase,
    Rollout,
    Trip,
    Verb,
)
from headgate.core.routing.split import Split
from headgate.core.verdict import Outcome, Verdict
from headgate.errors import BadRequestError, ConflictError, IllegalVerbError
from tests.core.engine_oracle import check_safety, rank
from tests.core.engine_world import CALM, NOON, World, a_spec, shown_by, standing, verdict, verdicts

ENDED = (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED, Phase.SUPERSEDED)
SLICED = {"columns": ["country"], "onSegment": "rollback"}
SPECS = (
    a_spec(),
    a_spec(decision="literal"),
    a_spec(segments=SLICED, evidence={"requiredAbove": 10}, watch={"duration": "10s", "holdback": 20}),
    a_spec(decision="literal", shadow=None, maxStepDowns=1),
    a_spec(shadow=None, maxStepDowns=1, harmBudget={"extraBad": 30}),
    a_spec(environment="dev"),
    a_spec(overrides={"anomaly": {"enabled": False}}),
    a_spec(
        steps=[
            {"setWeight": 5, "pause": {}, "approval": {"timeout": "20s", "onTimeout": "reject"}},
            {
                "setWeight": 50,
                "pause": {"duration": "5s"},
                "approval": {"timeout": "20s", "onTimeout": "approve"},
            },
            {"setWeight": 100, "pause": {"duration": "5s"}, "approval": {}},
        ]
    ),
)
MOODS: tuple[list[Outcome], ...] = (
    [],
    [],
    [],
    [Outcome.INSUFFICIENT_DATA, Outcome.WARN],
    [Outcome.ERROR, Outcome.INSUFFICIENT_DATA],
    [Outcome.FAIL, Outcome.WARN],
    [*Outcome],
)
EVIDENCE = st.sampled_from([0.0, 2.6, 4.0, 9.0])
ACTED = (Outcome.WARN, Outcome.FAIL, Outcome.CRITICAL)
ACTIONS: list[tuple[str, ...]] = [
    (),
    ("reduce_weight_by_half", "capture_sample_predictions"),
    ("reduce_weight_to_10_percent", "scale_connection_pool"),
    ("freeze_new_entity_extractions", "enable_enhanced_monitoring"),
]
TRIP = Trip(NOON, requests=12, failures=5, log_e=5.0, gateway="gw")
AUDITS = st.dictionaries(
    st.sampled_from(["sample_ratio", "segment:country=DE", "segment:country=AT"]),
    st.sampled_from([Outcome.PASS, Outcome.WARN, Outcome.FAIL]),
    max_size=2,
)
SECONDS = st.sampled_from([0, 1, 3, 11, 11, 12, 70])
ENDINGS = (Verb.ABORT, Verb.ROLLBACK, Verb.UNDO, Verb.REJECT)
HANDS = [
    "stop",
    "champion",
    "promote",
    "up",
    "down",
    "tag",
    "unreadable",
    "other",
    "nobody",
    "undo",
    "undo",
    "undo",
    "shadow",
    "all",
]


@st.composite
def judged_maps(draw: st.DrawFn, rollout: Rollout) -> dict[str, Verdict]:
    """All pass (mostly), or something else for one or more checks, one of them missing at times."""
    found, mood = verdicts(rollout), draw(st.sampled_from(MOODS))
    if draw(st.integers(0, 3)) == 0:
        doubtful = draw(st.sampled_from(sorted(found)))
        found[doubtful] = verdict(doubtful, Outcome.PASS, log_ni=1.0)
    if draw(st.integers(0, 9)) == 0:
        cost = replace(standing(extra_bad=draw(st.sampled_from([40.0, 200.0]))), challenger=0.0)
        found["error_rate"] = replace(verdict("error_rate", Outcome.PASS), standing=cost)
    if not mood:
        return found
    for name in draw(st.sets(st.sampled_from(sorted(found)), min_size=1, max_size=3)):
        outcome = draw(st.sampled_from(mood))
        found[name] = verdict(
            name,
            outcome,
            draw(st.sampled_from([0.1, 0.9])) if outcome.triggered else 0.0,
            log_e=draw(EVIDENCE) if outcome in (Outcome.WARN, Outcome.FAIL) else None,
            actions=draw(st.sampled_from(ACTIONS)) if outcome in ACTED else (),
        )
        if draw(st.integers(0, 7)) == 0:
            del found[name]
    return found


class Rollouts(RuleBasedStateMachine):
    """One rollout in a hostile world."""

    def __init__(self) -> None:
        super().__init__()
        self.given: set[tuple[int, object]] = set()
        self.touched = False
        self.ended = 0
        self.world = World()

    def after_an_end(self) -> World:
        """A rollout that has ended tells nothing new: look that it ended well, and begin another."""
        self.ended += not self.world.rollout.phase.live
        if self.ended > (2 if self.world.rollout.phase is Phase.PROMOTED else 0):
            self.teardown()
            self.given, self.touched, self.world, self.ended = set(), False, World(self.world.spec), 0
        return self.world

    @rule(index=st.integers(0, len(SPECS) - 1))
    @precondition(lambda self: len(self.world.results) == 1)
    def choose_spec(self, index: int) -> None:
        self.world = World(SPECS[index])

    @rule(
        data=st.data(),
        seconds=SECONDS,
        registry=st.integers(0, 9),
        samples=st.sampled_from([0, 9, 10, 500, 500]),
        audits=AUDITS,
        trip=st.sampled_from([None] * 30 + [TRIP]),
    )
    def sweep(
        self,
        data: st.DataObject,
        seconds: float,
        registry: int,
        samples: int,
        audits: dict[str, Outcome],
        trip: Trip | None,
    ) -> None:
        world = self.after_an_end()
        world.now += timedelta(seconds=seconds)
        recovery = data.draw(
            st.sampled_from([CALM, None, replace(CALM, challenger_requests=3, champion_requests=5)])
        )
        facts = world.facts(
            data.draw(judged_maps(world.rollout)),
            requests=samples,
            outcomes=samples,
            registry=registry > 0,
            recovery=recovery,
        )
        found = {name: Verdict(name, outcome, 0.5, "as drawn") for name, outcome in audits.items()}
        self.step(replace(facts, audits=found, trip=trip))

    @rule(count=st.integers(2, 25))
    def go_well(self, count: int) -> None:
        self.after_an_end()
        self.command(Verb.UNFREEZE, seen=False)
        self.command(Verb.RESUME, seen=True, adopt=False)
        for _ in range(count):
            self.world.now += timedelta(seconds=6)
            self.step(self.world.facts())
            self.world.deliver()
            if self.world.rollout.pause_reason is PauseReason.AWAITING_APPROVAL:
                self.command(Verb.APPROVE, seen=False)

    @rule(
        samples=st.sampled_from([0, 9, 500]),
        outcomes=st.sampled_from([0, 500]),
        registry=st.sampled_from([True, True, True, False]),
        data=st.data(),
    )
    def sweep_when_everything_is_ripe(
        self, samples: int, outcomes: int, registry: bool, data: st.DataObject
    ) -> None:
        world = self.after_an_end()
        world.deliver()
        self.step(world.facts())
        world.now += timedelta(seconds=15)
        judged = data.draw(judged_maps(world.rollout))
        self.step(world.facts(judged, requests=samples, outcomes=outcomes, registry=registry))

    @rule(seconds=SECONDS)
    def sweep_twice_on_the_same_facts(self, seconds: float) -> None:
        self.after_an_end()
        self.world.now += timedelta(seconds=seconds)
        facts = self.world.facts()
        self.step(facts)
        self.step(facts)

    def step(self, facts: Facts) -> None:
        world, before = self.world, self.world.rollout
        result = engine.step(before, facts, world.now)
        assert result == engine.step(before, facts, world.now)
        check_safety(before, facts, result, world.now)
        self.check_approvals(before, result.rollout)
        world.commit(result, expected=shown_by(before.target))

    def check_approvals(self, before: Rollout, after: Rollout) -> None:
        """A step that asks for an approval is left upward only with one that was given for this visit."""
        up = (
            after.weight_percent > before.weight_percent or after.phase is Phase.PROMOTING is not before.phase
        )
        if not up or before.base_phase is not Phase.PROGRESSING or before.step < 0:
            return
        wanted = before.spec.ramp[before.step].approval
        if wanted is None:
            return
        approval = before.approval
        assert approval is not None
        assert before.effective_since is not None
        assert approval.requested_at >= before.effective_since
        timed_out = wanted.on_timeout == "approve" and self.world.now >= approval.expires_at
        assert timed_out or (before.step, approval.requested_at) in self.given

    @rule(count=st.integers(1, 6))
    def deliver(self, count: int) -> None:
        self.world.deliver(count)

    @rule(back=st.integers(1, 5))
    @precondition(lambda self: self.world.delivered)
    def deliver_again(self, back: int) -> None:
        world = self.world
        world.carry_out(*world.delivered[-min(back, len(world.delivered))])

    @rule(
        verb=st.sampled_from([one for one in Verb if one not in ENDINGS]),
        full=st.booleans(),
        adopt=st.sampled_from([None, True, False]),
        weight=st.sampled_from([None, None, 3.0, 20.0, 60.0, 0.0, -1.0, float("nan")]),
        seen=st.booleans(),
    )
    def ask(self, verb: Verb, full: bool, adopt: bool | None, weight: float | None, seen: bool) -> None:
        options = {
            "full": full and verb is Verb.PROMOTE,
            "adopt": adopt if verb is Verb.RESUME else None,
            "to_weight": weight if verb is Verb.STEP_DOWN else None,
        }
        self.command(verb, seen=seen, **options)

    @rule(
        verb=st.sampled_from(ENDINGS), version=st.sampled_from([None, "1", "2", "7"]), dice=st.integers(0, 5)
    )
    def end(self, verb: Verb, version: str | None, dice: int) -> None:
        if dice == 0:
            self.command(verb, seen=True, to_version=version if verb is Verb.UNDO else None)

    def command(self, verb: Verb, *, seen: bool, **options: object) -> None:
        world, before = self.world, self.world.rollout
        view = world.view if seen else None
        call = {"actor": "ann", "reason": "", "registry": view, **options}
        legal, refused = engine.legal_verbs(before), None
        try:
            result = engine.command(before, verb, world.now, **call)  # type: ignore[arg-type]
        except IllegalVerbError as err:
            refused = err
        except (ConflictError, BadRequestError):
            return
        if refused is not None:
            assert verb not in legal
            assert refused.args[3] == tuple(one.value for one in legal)
            return
        approval = result.rollout.approval
        if verb is Verb.APPROVE and approval is not None:
            self.given.add((approval.step, approval.requested_at))
        assert result.rollout.weight_percent <= before.weight_percent
        assert rank(result.rollout) <= rank(before)
        world.commit(result, expected=shown_by(before.target))
        again = None
        try:
            again = engine.command(result.rollout, verb, world.now, **call)  # type: ignore[arg-type]
        except (IllegalVerbError, BadRequestError, ConflictError):
            assert verb in (Verb.RESUME, Verb.UNDO, Verb.STEP_DOWN, Verb.UNFREEZE)
        assert again is None or not again.changed

    @rule(what=st.sampled_from(HANDS), dice=st.integers(0, 2))
    def somebody_writes_to_the_registry(self, what: str, dice: int) -> None:
        world = self.after_an_end()
        if dice or world.rollout.phase is Phase.PENDING:
            return
        self.touched = True
        ours = world.rollout.id
        changes: dict[str, dict[str, object]] = {
            "stop": {"challenger": None},
            "champion": {"champion": "9"},
            "promote": {"champion": "2"},
            "up": {"challenger": "2", "split": Split(ours, {"2": 90.0}, False, ours)},
            "down": {"split": Split(ours, {"2": 1.0}, False, ours)},
            "tag": {"split": None},
            "unreadable": {"split": None, "split_error": "no JSON"},
            "other": {"challenger": "7"},
            "nobody": {"champion": None},
            "shadow": {"shadow": "7"},
            "all": {"holdback": None},
        }
        world.view = (
            shown_by(world.rollout.target) if what == "undo" else replace(world.view, **changes[what])
        )  # type: ignore[arg-type]

    @rule(what=st.sampled_from(HANDS), adopt=st.booleans())
    def a_person_settles_what_somebody_wrote(self, what: str, adopt: bool) -> None:
        self.after_an_end()
        for _ in range(2):
            self.world.deliver()
            self.world.now += timedelta(seconds=1)
            self.step(self.world.facts())
        self.somebody_writes_to_the_registry(what, 0)
        self.step(self.world.facts())
        self.command(Verb.RESUME, seen=True, adopt=adopt)

    @invariant()
    def the_target_is_safe(self) -> None:
        rollout = self.world.rollout
        target = rollout.target
        assert target.champion
        assert 0 <= rollout.weight_percent <= 100
        assert (
            (rollout.phase is Phase.PAUSED)
            == (rollout.pause_reason is not None)
            == (rollout.held is not None)
        )
        if rollout.phase in ENDED:
            assert rollout.weight_percent == 0
            assert target.challenger is None
            assert target.shadow is None
            assert target.split.weights == {}
            assert target.champion != rollout.challenger or rollout.phase is Phase.SUPERSEDED
        else:
            assert target.split.weights.get("2", 0) <= rollout.weight_percent
        if rollout.weight_percent > 0:
            assert rollout.exposed

    @invariant()
    def there_is_one_champion(self) -> None:
        assert self.touched or self.world.view.champion in ("1", "2", "7")

    def teardown(self) -> None:
        """Once nobody interferes, what was begun ends, and a rolled-back challenger has no traffic."""
        world = self.world
        if world.rollout.phase is Phase.ROLLING_BACK:
            for _ in range(60):
                world.now += timedelta(seconds=3)
                self.step(world.facts())
                world.deliver()
            assert world.rollout.phase is Phase.ROLLED_BACK
        elif world.rollout.phase is not Phase.ROLLED_BACK or self.touched:
            return
        view = world.view
        assert view.champion == world.rollout.champion != "2"
        assert "2" not in (view.challenger, view.shadow)
        assert view.split is None or view.split.weights.get("2", 0) == 0


Rollouts.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class TestRollouts(Rollouts.TestCase):  # type: ignore[name-defined, misc]
    """Issue 2, must be shown 3: no sequence moves traffic forward without a pass, skips an approval, leaves two
    champions or none, or leaves a rolled-back challenger with traffic. RP-06, RK-97."""

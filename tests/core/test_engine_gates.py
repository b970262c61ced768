"""At every stage, for every mix of observations: the rollout advances if, and only if, everything was proven."""

import functools
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from headgate.core import engine
from headgate.core.engine.sweep import enabled_checks
from headgate.core.rollout import Decision, Facts, Phase, Rollout
from headgate.core.verdict import Outcome
from tests.core.engine_world import World, a_spec, verdict, verdicts

STAGES = {
    "shadow": (Phase.SHADOWING, 0),
    "5": (Phase.PROGRESSING, 5),
    "10": (Phase.PROGRESSING, 10),
    "25": (Phase.PAUSED, 25),
    "50": (Phase.PROGRESSING, 50),
    "100": (Phase.PROGRESSING, 100),
    "watch": (Phase.WATCHING, 100),
}
NAMES = sorted(verdicts(World().rollout))
PROVEN = (Outcome.PASS, Outcome.WARN)
SAID = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([None, *Outcome]), max_size=2)


@functools.cache
def ripe(stage: str, mode: str = "guarded") -> tuple[Rollout, Facts, datetime]:
    """A rollout that has only to be looked at to leave its stage."""
    world = World(a_spec(decision=mode)).until(*STAGES[stage])
    if stage == "25":
        world.answer()
    return world.rollout, world.facts(), world.now + timedelta(seconds=60)


@settings(max_examples=400, deadline=None)
@given(
    stage=st.sampled_from(list(STAGES)),
    said=SAID,
    requests=st.sampled_from([9, 10, 1000]),
    outcomes=st.sampled_from([1, 2, 1000]),
    registry=st.sampled_from([True, True, True, False]),
    pending=st.sampled_from([False, False, False, True]),
    soaked=st.sampled_from([True, True, True, False]),
    mode=st.sampled_from(["guarded", "literal"]),
    unshown=st.sampled_from([None, None, "accuracy", "latency"]),
)
@example("shadow", {"agreement": None}, 10, 1, True, False, True, "guarded", None)
@example("shadow", {"agreement": Outcome.INSUFFICIENT_DATA}, 10, 1, True, False, True, "guarded", None)
@example("shadow", {"accuracy": Outcome.INSUFFICIENT_DATA}, 10, 1, True, False, True, "guarded", None)
@example("shadow", {"accuracy": None}, 10, 1, True, False, True, "guarded", None)
@example("50", {"accuracy": Outcome.INSUFFICIENT_DATA}, 10, 2, True, False, True, "guarded", None)
@example("50", {"anomaly": None}, 10, 2, True, False, True, "guarded", None)
@example("50", {}, 10, 2, True, False, True, "guarded", "latency")
@example("50", {}, 10, 2, True, False, True, "literal", "latency")
@example("100", {}, 10, 2, True, False, True, "guarded", "accuracy")
@example("10", {}, 10, 2, True, False, True, "guarded", "accuracy")
@example("watch", {"anomaly": Outcome.ERROR}, 10, 2, True, False, True, "guarded", None)
def test_a_stage_is_left_only_when_everything_was_proven(
    stage: str,
    said: dict[str, Outcome | None],
    requests: int,
    outcomes: int,
    registry: bool,
    pending: bool,
    soaked: bool,
    mode: str,
    unshown: str | None,
) -> None:
    """RP-06, RK-97: and then it is left, so that no gate is closed for good."""
    rollout, facts, now = ripe(stage, mode)
    judged = dict(facts.verdicts)
    if unshown is not None:
        judged[unshown] = verdict(unshown, Outcome.PASS, log_ni=1.0)
    for name, outcome in said.items():
        judged.pop(name)
        if outcome is not None:
            judged[name] = verdict(name, outcome)
    asked = [*enabled_checks(rollout)] + (["agreement"] if stage == "shadow" else [])
    proven = all(
        name in judged
        and (
            judged[name].outcome in PROVEN
            or (
                stage == "shadow" and name == "accuracy" and judged[name].outcome is Outcome.INSUFFICIENT_DATA
            )
        )
        for name in asked
    )
    doubtful = unshown is not None and unshown not in said
    proven = proven and not (mode == "guarded" and stage in ("50", "100") and doubtful)
    enough = requests >= 10 if stage in ("shadow", "5", "10") else True
    enough = enough and (outcomes >= 2 if stage == "10" else True)
    assert rollout.effective_since is not None
    observed = replace(
        facts,
        verdicts=judged,
        requests=requests,
        outcomes=outcomes,
        registry=facts.registry if registry else None,
        effects_pending=pending,
    )
    result = engine.step(rollout, observed, now if soaked else rollout.effective_since + timedelta(seconds=1))
    left = result.ruling.decision in (Decision.ADVANCE, Decision.PROMOTE)

    assert left == (proven and enough and registry and soaked and not pending)
    assert result.rollout.weight_percent <= rollout.weight_percent or left
    if any(name in judged and judged[name].outcome is Outcome.CRITICAL for name in enabled_checks(rollout)):
        assert result.rollout.phase is Phase.ROLLING_BACK


@settings(max_examples=60, deadline=None)
@given(stage=st.sampled_from([name for name in STAGES if name != "25"]), seconds=st.integers(0, 10**7))
def test_no_time_alone_moves_a_rollout_further_than_one_stage(stage: str, seconds: int) -> None:
    """After an outage a sweep advances at most one step."""
    rollout, facts, now = ripe(stage)
    weights = [step.set_weight for step in a_spec().ramp]
    first = engine.step(rollout, facts, now + timedelta(seconds=seconds)).rollout
    second = engine.step(first, facts, now + timedelta(seconds=seconds)).rollout

    at = weights.index(rollout.weight_percent) if rollout.weight_percent else -1
    assert first.weight_percent in (rollout.weight_percent, *weights[at + 1 : at + 2])
    assert second.weight_percent == first.weight_percent

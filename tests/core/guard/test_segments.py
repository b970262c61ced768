"""Slices of the traffic."""

import numpy as np
import pytest

from headgate.core.guard.advance import advance
from headgate.core.guard.segments import judge_segments, slice_policies
from headgate.core.guard.state import GuardState
from headgate.core.policies import ErrorRatePolicy, Policies
from headgate.core.spec import EvidenceSpec
from headgate.core.verdict import Outcome
from tests.core.guard.guard_world import PAST, arm, look

EVIDENCE = EvidenceSpec()
SLICED = slice_policies(Policies())


def _slices(error_rates: dict[str, float], looks: int = 10, seed: int = 1) -> dict[str, GuardState]:
    rng = np.random.default_rng(seed)
    states = {name: GuardState() for name in error_rates}
    for first in range(0, 3 * looks, 3):
        news = []
        for rate in error_rates.values():
            n_t, n_c = rng.poisson(40, 3), rng.poisson(360, 3)
            news.append(
                look(arm(n_t, rng.binomial(n_t, rate)), arm(n_c, rng.binomial(n_c, 0.02)), first=first)
            )
        size = len(news)
        advanced = advance(list(states.values()), news, [SLICED] * size, [PAST] * size)
        states = dict(zip(states, advanced, strict=True))
    return states


def test_a_slice_that_fails_while_the_total_looks_fine_is_named() -> None:
    rates = {f"country={name}": 0.02 for name in ("at", "be", "ch", "dk", "es", "fr")} | {"country=pl": 0.15}
    found = judge_segments(_slices(rates), Policies(), EVIDENCE)

    assert set(found) == {f"segment:{name}" for name in rates}
    bad = found["segment:country=pl"]
    assert bad.outcome is Outcome.FAIL
    assert bad.indicators == ("error_rate",)
    assert bad.reason.startswith("error_rate 1")
    assert bad.samples > 1_000
    assert {one.outcome for name, one in found.items() if name != bad.check} == {Outcome.PASS}


def test_a_slice_proven_worse_within_the_margin_only_warns() -> None:
    policies = Policies(error_rate=ErrorRatePolicy(margin=0.5))
    states = _slices({"country=pl": 0.15})

    assert judge_segments(states, policies, EVIDENCE)["segment:country=pl"].outcome is Outcome.WARN


def test_healthy_slices_stay_unnamed_however_many_there_are() -> None:
    """e-BH over all slices: thirty healthy ones."""
    rates = {f"user_group={number}": 0.02 for number in range(30)}
    found = judge_segments(_slices(rates, looks=12), Policies(), EVIDENCE)

    assert {one.outcome for one in found.values()} == {Outcome.PASS}


def test_a_slice_without_an_answer_of_the_challenger_proves_nothing() -> None:
    (state,) = advance([GuardState()], [look(arm([0]), arm([500], 5))], [SLICED], [PAST])
    found = judge_segments({"a=b": state, "c=d": GuardState()}, Policies(), EVIDENCE)

    assert {one.outcome for one in found.values()} == {Outcome.INSUFFICIENT_DATA}


def test_the_whole_rollout_is_no_slice_and_more_gates_do_no_harm() -> None:
    (whole,) = advance([GuardState()], [look(arm([500]), arm([500], 5))], [Policies()], [PAST])
    found = judge_segments({"": whole, "a=b": whole}, Policies(), EVIDENCE)

    assert set(found) == {"segment:a=b"}
    assert found["segment:a=b"].outcome is Outcome.PASS


def test_no_slices_no_verdicts() -> None:
    assert judge_segments({}, Policies(), EVIDENCE) == {}


def test_a_slice_has_gates_of_three_checks_only() -> None:
    state = _slices({"a=b": 0.02}, looks=1)["a=b"]

    assert {name.split(".")[0] for name in state.gates} == {"accuracy", "latency", "error_rate"}
    assert SLICED.latency == Policies().latency


@pytest.mark.parametrize("enabled", [True, False])
def test_a_check_that_the_rollout_does_not_have_its_slices_do_not_have(enabled: bool) -> None:
    policies = slice_policies(Policies(error_rate=ErrorRatePolicy(enabled=enabled)))

    assert policies.error_rate.enabled is enabled

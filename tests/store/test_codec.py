"""What is stored as JSON is read again as it was, also when an older headgate wrote it."""

import json
import math
from pathlib import Path

import pytest

from headgate.core.rollout import Phase
from headgate.core.verdict import Outcome, Standing, Verdict
from headgate.store.codec import rollout_from_json, rollout_to_json, verdicts_from_json, verdicts_to_json
from tests.store.making import a_rollout, a_verdict

OLD = Path(__file__).parent / "rollout_0_2.json"
"""A watched rollout as the second release stored it."""

STANDING = Standing(
    challenger=0.02,
    champion=0.01,
    difference=0.01,
    low=-math.inf,
    high=0.03,
    n_challenger=1200,
    n_champion=22_800,
    log_e=math.log(20),
    log_e_needed=5.3,
    margin=0.005,
    log_ni=-0.5,
    log_ni_needed=3.0,
    to_go=1400.0,
    eta_s=11_400.0,
    maturity=0.8,
    extra_bad=12.5,
    deff=1.2,
    parts={"error_rate": 3.0, "error_rate.timeout": -math.inf},
)


def round_trip(verdict: Verdict) -> Verdict:
    stored = json.loads(json.dumps(verdicts_to_json({"latency": verdict}), allow_nan=False))
    return verdicts_from_json(stored)["latency"]


@pytest.mark.parametrize(
    "verdict",
    [
        a_verdict(),
        a_verdict(standing=STANDING, literal=a_verdict(outcome=Outcome.CRITICAL)),
        a_verdict(standing=Standing()),
        a_verdict(guarded=a_verdict(outcome=Outcome.WARN, standing=STANDING)),
    ],
    ids=["literal", "guarded", "nothing measured", "guarded beside literal"],
)
def test_a_verdict_is_read_as_it_was_given(verdict: Verdict) -> None:
    back = round_trip(verdict)

    assert back == verdict
    assert (back.standing is None) == (verdict.standing is None)


def test_numbers_that_are_not_finite_come_back() -> None:
    back = round_trip(
        a_verdict(standing=Standing(log_e=math.nan, low=-math.inf), numbers={"p95_ms": math.inf})
    )

    assert back.standing is not None
    assert math.isnan(back.standing.log_e)
    assert (back.standing.low, back.standing.log_e_needed) == (-math.inf, math.inf)
    assert not back.standing.confirmed
    assert back.numbers["p95_ms"] == math.inf


def test_verdicts_from_before_guarded_ones_are_literal() -> None:
    stored = verdicts_to_json({"latency": a_verdict()})
    for name in ("standing", "literal", "guarded"):
        del stored["latency"][name]
    back = verdicts_from_json(stored)["latency"]

    assert (back.standing, back.literal, back.guarded) == (None, None, None)


def test_a_rollout_of_the_second_release_is_read() -> None:
    rollout = rollout_from_json(json.loads(OLD.read_text()))

    assert (rollout.phase, rollout.challenger, rollout.spec.decision) == (Phase.WATCHING, "3", "literal")
    assert rollout_from_json(rollout_to_json(rollout)) == rollout


def test_a_rollout_is_read_as_it_was_written() -> None:
    rollout = a_rollout(excluded={"region": ("eu", "us")})

    assert rollout_from_json(json.loads(json.dumps(rollout_to_json(rollout)))) == rollout

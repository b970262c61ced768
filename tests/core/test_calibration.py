"""Healthy challengers are rolled back no more often than stated, however often one looks; bad ones are found in time."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import exposure, peers
from benchmarks.guarded import Engine, needed
from benchmarks.product import difference, product
from benchmarks.worlds import World, draw, healthy, steady
from headgate.core.guard.budgets import shares
from headgate.core.guard.gates import GATES
from headgate.core.stats.limits import wald_limit
from headgate.core.verdict import Check

ALPHA = 0.05
WORLDS = {world.name: world for world in healthy()}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def at_most(runs: int) -> float:
    """False rollbacks that alpha and twice its standard error allow."""
    return runs * (ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / runs))


def cut_short(world: World, looks: int) -> World:
    """The first looks of a world."""

    def first(arm):
        rates = {name: values[:looks] for name, values in arm.rates.items()}
        return replace(arm, rates=rates, latency=arm.latency[:looks], confidence=arm.confidence[:looks])

    return replace(
        world, champion=first(world.champion), challenger=first(world.challenger), own=world.own[:looks]
    )


@pytest.mark.parametrize("name", WORLDS)
def test_the_quick_simulation_says_what_the_product_says(name):
    """Same looks, same evidence, check by check; so what the bench shows is true of the product."""
    assert difference(WORLDS[name], runs=2, looks=15, seed=3) < 1e-4


def test_a_few_healthy_days_are_left_alone(engine):
    """Six hours of 30 runs; the slow test has whole days, and every world."""
    evidence = engine.run(cut_short(steady(), 720), draw(steady(720), 30, np.random.default_rng(4)))

    assert (evidence.highest >= needed(ALPHA)).sum() <= at_most(30)


def test_a_doubled_error_rate_is_found_near_the_limit(engine):
    """Alone at alpha .01: within 1.4 times the least mean number of requests, and three standard errors."""
    world = steady(600).worse(errors=0.02)
    found = exposure.confirmed(world, (Check.ERROR_RATE,), ("errors",), 150, 5, alone=True)[0.01]
    mean, error = exposure.mean_and_error(found)

    assert mean - 3 * error <= 1.4 * wald_limit(0.01, 0.02, exposure.RATIO, 0.01)


def test_the_peers_do_what_they_say():
    """On the same traffic: fixed limits fire on a healthy day, a repeated z-test too, a mixture test does not."""
    world = steady(1440)
    seen = peers.see(world, draw(world, 30, np.random.default_rng(6)))

    assert (peers.flagger(seen) >= 0).all()
    assert (peers.argo(seen) >= 0).mean() > 0.5
    assert (peers.repeated_z(seen, ALPHA) >= 0).mean() > 0.3
    assert (peers.msprt(seen, ALPHA) >= 0).mean() < 0.2
    assert (peers.documents_engine(seen) >= 0).sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_healthy_days_are_left_alone_in_every_world(engine, name):
    """24 h of 30-second looks, seven checks together, 100 runs, alpha .05."""
    fired = 0
    for number in range(2):
        draws = draw(WORLDS[name], 50, np.random.default_rng([7, number]))
        fired += int((engine.run(WORLDS[name], draws).highest >= needed(ALPHA)).sum())

    assert fired <= at_most(100)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_the_product_itself_leaves_healthy_hours_alone(name):
    """`advance` and `standings` over an hour and a half of looks, 30 runs."""
    world = cut_short(WORLDS[name], 180)
    evidence = product(world, draw(world, 30, np.random.default_rng(8)), 30, 180)
    weights = np.array([shares(tuple(GATES))[check] for check in GATES])

    assert ((evidence @ weights).max(axis=0) >= needed(ALPHA)).sum() <= at_most(30)

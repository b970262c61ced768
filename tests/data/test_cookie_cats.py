"""Cookie Cats, 90,189 players: a test whose split was off, and a difference in retention."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from headgate.core.stats.odds import increments
from headgate.core.stats.sample_ratio import chi_square, log_mismatch
from headgate.core.stats.sequential import confidence_sequence, difference, mle


@pytest.fixture(scope="module")
def players(data_dir):
    table = pq.read_table(data_dir / "cookie_cats" / "cookie_cats.parquet")
    order = np.argsort(np.asarray(table["userid"]), kind="stable")
    late = np.asarray(table["test_version"].to_pylist())[order] == "gate_40"
    return late, np.asarray(table["retention_7"])[order].astype(np.int64)


@pytest.fixture(scope="module")
def truth(data_dir):
    return json.loads((data_dir / "cookie_cats" / "ground_truth.json").read_text())


def test_the_sample_ratio_mismatch_is_found(players, truth):
    """One look at the end: an alarm at 1 %, as published."""
    late, _ = players
    statistic, p_value = chi_square([int((~late).sum()), int(late.sum())], [0.5, 0.5])

    assert statistic == pytest.approx(truth["srm"]["chi2"], rel=1e-12)
    assert p_value == pytest.approx(truth["srm"]["p"], rel=1e-9)
    assert p_value < 0.01


def test_the_mismatch_is_too_small_to_be_proven_by_looking_all_the_time(players):
    """The e-process pays for its looks: evidence for a mismatch, though not 20 to 1."""
    late, _ = players
    log_e = log_mismatch((int(late.sum()), int((~late).sum())), 0.5)

    assert 0 < log_e < np.log(20)


def test_the_later_gate_keeps_fewer_players_for_a_week(players, truth):
    """Lost players are the bad outcomes; one block, the interval covers the published difference at all looks."""
    late, kept = players
    lost = 1 - kept
    counts = (int(lost[late].sum()), int(late.sum()), int(lost[~late].sum()), int((~late).sum()))
    ll = increments(*([count] for count in counts))
    base = counts[2] / counts[3]
    low, high = (float(difference(bound, base)[0]) for bound in confidence_sequence(ll, 0.05))
    found = float(difference(mle(ll), base)[0])

    assert found == pytest.approx(-truth["retention_7"]["diff"], abs=1e-4)
    assert low < found < high
    assert low <= -truth["retention_7"]["ci95"][1]
    assert high >= -truth["retention_7"]["ci95"][0]


def test_the_interval_closes_in_as_players_come(players, truth):
    """1,000 players a block: at no look does the interval leave out what is known at the end, and it narrows."""
    late, kept = players
    block = np.arange(len(late)) // 1000

    def summed(values):
        return np.bincount(block, weights=values).astype(np.int64)

    lost = 1 - kept
    ll = np.cumsum(increments(summed(lost * late), summed(late), summed(lost * ~late), summed(~late)), axis=0)
    low, high = confidence_sequence(ll, 0.05)
    known, base = float(mle(ll[-1])), float(lost[~late].mean())
    ends = difference(low[-1], base), difference(high[-1], base)

    assert ((low <= known) & (known <= high)).all()
    assert ends[0] <= -truth["retention_7"]["diff"] <= ends[1]
    assert ends[1] - ends[0] < 0.025

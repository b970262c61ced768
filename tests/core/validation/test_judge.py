"""Every point of a validation, and that nothing unknown passes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from headgate.core.monitoring import ValidationSpec
from headgate.core.validation.finding import Finding, all_pass
from headgate.core.validation.judge import judge
from headgate.core.validation.measures import Answers, Holdout
from headgate.core.validation.slices import slice_of

SPEC = ValidationSpec()
ROWS = 1000


def a_holdout(rows: int = ROWS, seed: int = 0, **slices: Any) -> Holdout:
    labels = np.where(np.random.default_rng(seed).random(rows) < 0.3, "yes", "no").astype(object)
    return Holdout(labels, ("no", "yes"), "yes", slices)


def right_by(holdout: Holdout, share: float, seed: int = 1, sure: float | None = None) -> Answers:
    """A model that is right on this share of the rows, and as sure as that."""
    truth = holdout.labels == "yes"
    said = truth ^ (np.random.default_rng(seed).random(len(truth)) >= share)
    p = share if sure is None else sure
    scores = np.where(said[:, None], [1 - p, p], [p, 1 - p])
    return Answers(np.where(said, "yes", "no").astype(object), scores, "probabilities", 1.0, 5.0)


def names(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.name for finding in findings if not finding.passed]


def test_a_better_candidate_passes_every_point() -> None:
    holdout = a_holdout()
    findings = judge(SPEC, holdout, right_by(holdout, 0.97), right_by(holdout, 0.85, 2), [])
    assert names(findings) == []
    assert all_pass(findings)
    assert [Finding.from_json(one.to_json()) for one in findings] == list(findings)


def test_a_candidate_identical_to_the_champion_passes() -> None:
    holdout = a_holdout()
    same = right_by(holdout, 0.95)
    assert names(judge(SPEC, holdout, same, same, [])) == []


@pytest.mark.parametrize("champion", [True, False])
def test_a_constant_classifier_fails(champion: bool) -> None:
    """However many labels are of the kind that it always says, and with every floor at nothing."""
    holdout = a_holdout()
    constant = Answers(
        np.full(ROWS, "no", dtype=object), np.tile([0.7, 0.3], (ROWS, 1)), "probabilities", 1.0, 1.0
    )
    beside = constant if champion else None
    assert "pr_auc" in names(judge(SPEC, holdout, constant, beside, []))
    lax = SPEC.model_copy(update={"min_pr_auc": 0.0})
    assert names(judge(lax, holdout, constant, beside, [])) == ["varies"]


def test_below_the_floor_of_pr_auc_it_is_refused() -> None:
    """AR-02: 0.70, beside whatever champion."""
    holdout = a_holdout()
    findings = judge(SPEC, holdout, right_by(holdout, 0.8), None, [])
    (area,) = [finding for finding in findings if finding.name == "pr_auc"]
    assert not area.passed
    assert area.value is not None
    assert area.value < 0.7 == area.limit
    assert "PR-AUC (of 'yes') 0." in area.sentence
    assert "at least 0.7 is asked" in area.sentence


def test_worse_than_the_champion_is_refused_with_the_counts() -> None:
    holdout = a_holdout()
    findings = judge(SPEC, holdout, right_by(holdout, 0.93), right_by(holdout, 0.98, 2), [])
    assert "not_worse" in names(findings)
    (told,) = [finding for finding in findings if finding.name == "not_worse"]
    assert told.detail["lost"] > told.detail["won"]
    assert "less often than the champion on 1000 rows" in told.sentence
    assert "not shown" in told.sentence


def test_without_a_champion_only_the_floors_hold_and_that_is_said() -> None:
    """Passing needs no comparison that can't be made, but says so."""
    holdout = a_holdout(country=np.full(ROWS, "at", dtype=object))
    spec = SPEC.model_copy(update={"slices": ("country",)})
    findings = judge(spec, holdout, right_by(holdout, 0.97), None, [])
    assert names(findings) == []
    told = {finding.name: finding.sentence for finding in findings}
    assert told["not_worse"] == "there is no champion yet: only the absolute limits hold"
    assert "no champion" in told["slice:country"] + told["latency"]


def test_a_slice_in_which_it_does_worse_is_found_though_all_in_all_it_is_better() -> None:
    """RK-93: the groups that a figure over all hides."""
    countries = np.array(["at"] * 900 + ["de"] * 95 + ["li"] * 5, dtype=object)
    holdout = a_holdout(country=countries)
    champion, candidate = right_by(holdout, 0.9, 2), right_by(holdout, 0.99)
    worse = candidate.predictions.copy()
    flipped = np.flatnonzero(countries == "de")[::3]
    worse[flipped] = np.where(holdout.labels[flipped] == "yes", "no", "yes")
    spec = SPEC.model_copy(update={"slices": ("country",)})
    findings = judge(spec, holdout, replace(candidate, predictions=worse), champion, [])
    assert names(findings) == ["slice:country"]
    (found,) = [finding for finding in findings if finding.name == "slice:country"]
    assert "in de (95 rows)" in found.sentence
    assert "too few rows to judge: li (5)" in found.sentence
    assert found.detail["too_small"] == {"li": 5}


def test_a_slice_that_nobody_can_judge_does_not_pass() -> None:
    holdout = a_holdout(300, user=np.array([str(place % 150) for place in range(300)], dtype=object))
    both = right_by(holdout, 0.97)
    spec = SPEC.model_copy(update={"slices": ("user", "gone")})
    findings = {finding.name: finding for finding in judge(spec, holdout, both, both, [])}
    # Small ones are looked at together.
    assert findings["slice:user"].passed
    assert "in (others) (300 rows)" in findings["slice:user"].sentence
    assert not findings["slice:gone"].passed
    few = a_holdout(40, user=np.array([str(place) for place in range(40)], dtype=object))
    only = right_by(few, 0.97)
    assert "slice:user" in names(judge(spec, few, only, only, []))


def test_slices_of_numbers_are_values_or_quarters() -> None:
    assert list(slice_of(np.array([1.0, 2.0, math.nan]))) == ["1", "2", "missing"]
    assert len(set(slice_of(np.arange(100.0)))) == 4
    assert list(slice_of(np.array(["a", None], dtype=object))) == ["a", "missing"]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"probabilities": None, "source": "predictions"}, "calibration"),
        ({"latency_ms": math.nan}, "latency"),
        ({"latency_ms": 4.0}, "latency"),
        ({"size_mb": math.nan}, "size"),
        ({"size_mb": 501.0}, "size"),
    ],
)
def test_what_is_unknown_or_over_its_limit_does_not_pass(changes: dict[str, Any], refused: str) -> None:
    holdout = a_holdout()
    good, champion = right_by(holdout, 0.99), right_by(holdout, 0.85, 2)
    assert names(judge(SPEC, holdout, replace(good, **changes), champion, [])) == [refused]


def test_a_model_that_is_surer_than_it_is_right_is_refused() -> None:
    """RK-96: calibration as a guardrail."""
    holdout = a_holdout()
    spec = SPEC.model_copy(update={"min_pr_auc": 0.0})
    findings = judge(spec, holdout, right_by(holdout, 0.75, sure=0.99), None, [])
    assert names(findings) == ["calibration"]


def test_rows_it_does_not_answer_and_a_changed_signature_are_refused() -> None:
    holdout = a_holdout()
    good, champion = right_by(holdout, 0.99), right_by(holdout, 0.85, 2)
    silent = good.predictions.copy()
    silent[:3] = None
    assert names(judge(SPEC, holdout, replace(good, predictions=silent), champion, [])) == ["answers"]
    findings = judge(SPEC, holdout, good, champion, ["'age' (double) is gone"])
    assert names(findings) == ["signature"]
    assert [one.sentence for one in findings if one.name == "signature"] == ["'age' (double) is gone"]


def test_too_few_rows_are_said_with_how_many_it_takes() -> None:
    holdout = a_holdout(100)
    same = right_by(holdout, 1.0, sure=1.0)
    findings = judge(SPEC, holdout, same, same, [])
    assert names(findings) == ["rows", "not_worse"]
    assert any("that needs 149 rows at least" in finding.sentence for finding in findings)


def test_no_findings_are_no_pass() -> None:
    assert not all_pass(())

"""All points of a validation: each a finding, every one of which must pass."""

import math
from collections.abc import Sequence

import numpy as np

from headgate.core.monitoring import ValidationSpec
from headgate.core.validation.finding import Finding
from headgate.core.validation.measures import Answers, Holdout, is_right, measure
from headgate.core.validation.noninferior import p_worse, pair, rows_needed
from headgate.core.validation.slices import judge_slice

_HOW_MADE = {
    "probabilities": "",
    "confidence": "; from the confidence of its answers, the rest spread evenly over the other classes",
    "predictions": "; from its plain answers, since it gives no probability",
}


def judge(
    spec: ValidationSpec,
    holdout: Holdout,
    candidate: Answers,
    champion: Answers | None,
    changes: Sequence[str],
) -> tuple[Finding, ...]:
    """Judge a candidate by its answers, beside the champion's where there is one.

    Args:
        champion: None = there is none yet; then only the absolute limits hold, and that is said.
        changes: how the candidate's signature differs from the champion's.
    """
    told = measure(holdout, candidate)
    return (
        _rows(spec, holdout),
        _answers(told["unanswered"], measure(holdout, champion)["unanswered"] if champion else None),
        _varies(holdout, candidate),
        _floor("accuracy", told["accuracy"], spec.min_accuracy, "share of right answers"),
        _pr_auc(spec, holdout, candidate, told["pr_auc"]),
        _not_worse(spec, holdout, candidate, champion),
        *_slices(spec, holdout, candidate, champion),
        _calibration(spec, candidate, told["calibration_error"]),
        _signature(changes, champion),
        _size(spec, candidate),
        _latency(spec, candidate, champion),
    )


def _rows(spec: ValidationSpec, holdout: Holdout) -> Finding:
    rows = len(holdout.labels)
    told = f"{rows} labelled rows that it was not trained on, at least {spec.min_rows} are needed"
    return Finding("rows", rows >= spec.min_rows, rows, spec.min_rows, told)


def _answers(unanswered: float, champions: float | None) -> Finding:
    limit = champions if champions is not None else 0.0
    beside = f", by the champion {limit:.2%}" if champions is not None else ""
    told = f"{unanswered:.2%} of the rows are not answered{beside}"
    return Finding("answers", unanswered <= limit, unanswered, limit, told)


def _varies(holdout: Holdout, candidate: Answers) -> Finding:
    said = {text for text in candidate.predictions if text is not None}
    passed = len(said) >= 2
    only = f"only {next(iter(said))!r}" if said else "nothing"
    told = f"it answers {len(said)} different things" if passed else f"it answers {only} whatever it is asked"
    return Finding("varies", passed, len(said), 2, f"{told}; the labels are {len(holdout.classes)}")


def _floor(name: str, value: float, floor: float, what: str) -> Finding:
    return Finding(name, value >= floor, value, floor, f"{what} {value:.3f}, at least {floor:g} is asked")


def _pr_auc(spec: ValidationSpec, holdout: Holdout, candidate: Answers, value: float) -> Finding:
    classes = len(holdout.classes)
    of = f"of {holdout.positive!r}" if classes == 2 else f"mean of one-vs-rest over {classes} classes"
    found = _floor("pr_auc", value, spec.min_pr_auc, f"PR-AUC ({of})")
    how = _HOW_MADE[candidate.source] if math.isfinite(value) else "; it can't be told from these answers"
    return Finding("pr_auc", found.passed, value, spec.min_pr_auc, found.sentence + how)


def _not_worse(
    spec: ValidationSpec, holdout: Holdout, candidate: Answers, champion: Answers | None
) -> Finding:
    if champion is None:
        told = "there is no champion yet: only the absolute limits hold"
        return Finding("not_worse", passed=True, value=None, limit=-spec.margin, sentence=told)
    pairs = pair(is_right(holdout, candidate), is_right(holdout, champion))
    p = p_worse(pairs, spec.margin)
    passed = p <= spec.alpha
    points = 100 * pairs.difference
    verdict = "shown" if passed else "not shown"
    told = (
        f"right {abs(points):.2f} points {'more' if points >= 0 else 'less'} often than the champion on {pairs.rows} rows"
        f" (alone right {pairs.won} times, alone wrong {pairs.lost}); that it is not worse by {100 * spec.margin:g} points"
        f" or more is {verdict}: p {p:.4f}, at most {spec.alpha:g} is asked (Tango's score test of paired answers)"
    )
    needed = rows_needed(spec.margin, spec.alpha)
    if not passed and pairs.rows < needed:
        told += f"; that needs {needed} rows at least"
    detail = {
        "won": pairs.won,
        "lost": pairs.lost,
        "rows": pairs.rows,
        "p": p,
        "alpha": spec.alpha,
        "design_effect": pairs.design_effect,
    }
    return Finding("not_worse", passed, pairs.difference, -spec.margin, told, detail)


def _slices(
    spec: ValidationSpec, holdout: Holdout, candidate: Answers, champion: Answers | None
) -> list[Finding]:
    mine = is_right(holdout, candidate)
    theirs = is_right(holdout, champion) if champion is not None else None
    return [
        judge_slice(column, holdout.slices.get(column), mine, theirs, spec.max_slice_drop)
        for column in spec.slices
    ]


def _calibration(spec: ValidationSpec, candidate: Answers, value: float) -> Finding:
    limit = spec.max_calibration_error
    if limit >= 1:
        told = "calibration is not asked for (maxCalibrationError 1)"
        return Finding("calibration", passed=True, value=value, limit=limit, sentence=told)
    if candidate.probabilities is None:
        told = "it gives no probability, so calibration can't be told; maxCalibrationError 1 does without"
        return Finding("calibration", passed=False, value=None, limit=limit, sentence=told)
    told = f"its sureness is off by {value:.3f} on average (expected calibration error), at most {limit:g} is allowed"
    return Finding("calibration", value <= limit, value, limit, told)


def _signature(changes: Sequence[str], champion: Answers | None) -> Finding:
    same = "as the champion's" if champion is not None else "there is no champion to compare it with"
    told = "; ".join(changes) if changes else f"its signature is {same}" if champion is not None else same
    return Finding("signature", not changes, len(changes), 0, told)


def _size(spec: ValidationSpec, candidate: Answers) -> Finding:
    value, limit = candidate.size_mb, spec.max_size_mb
    return Finding("size", value <= limit, value, limit, f"{value:.1f} MiB on disk, at most {limit:g}")


def _latency(spec: ValidationSpec, candidate: Answers, champion: Answers | None) -> Finding:
    limit = spec.max_latency_ratio
    if champion is None:
        told = f"{candidate.latency_ms:.2f} ms a row (median); there is no champion to compare it with"
        known = bool(np.isfinite(candidate.latency_ms))
        return Finding("latency", known, None, limit, told)
    ratio = candidate.latency_ms / champion.latency_ms if champion.latency_ms > 0 else math.nan
    told = (
        f"{candidate.latency_ms:.2f} ms for one row (median), the champion {champion.latency_ms:.2f} ms:"
        f" {ratio:.2f} times, at most {limit:g}"
    )
    return Finding("latency", ratio <= limit, ratio, limit, told)

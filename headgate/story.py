"""Tells one move of a rollout as markdown: the ruling, the verdicts, what comes next."""

import re
from collections.abc import Mapping

from headgate.core.rollout import Phase, Rollout, StepResult
from headgate.core.verdict import Verdict
from headgate.core.wording import evidence


def artifact_key(rollout_id: str) -> str:
    """Name of a rollout's story among Prefect's artifacts."""
    return "rollout-" + re.sub(r"[^a-z0-9]+", "-", rollout_id.lower()).strip("-")


def title(before: Rollout, result: StepResult) -> str:
    """A few words for lists: `digits-v3-1: advance to 25 %`."""
    after = result.rollout
    if after.phase is Phase.ROLLING_BACK:
        words = ["cut off", "traffic is cut", "champion restored", "recovery judged"]
        return f"{after.id}: {words[min(after.recovery.stage if after.recovery else 0, 3)]}"
    if after.phase is Phase.ROLLED_BACK:
        return (
            f"{after.id}: rolled back, {(after.recovery and after.recovery.status) or 'recovery not judged'}"
        )
    if after.phase is Phase.PROGRESSING and after.weight_percent != before.weight_percent:
        return f"{after.id}: {result.ruling.decision.value.replace('_', ' ')} to {after.weight_percent:g} %"
    pause = f" ({after.pause_reason.value})" if after.pause_reason else ""
    return f"{after.id}: {after.phase.value}{pause}"


def move_as_markdown(before: Rollout, result: StepResult, verdicts: Mapping[str, Verdict]) -> str:
    """The whole story of one move."""
    after, ruling = result.rollout, result.ruling
    lines = [
        f"# {title(before, result)}",
        "",
        f"**{ruling.decision.value}**: {ruling.reason}",
        "",
        f"- confidence {ruling.confidence:.2f}, triggered by `{ruling.triggered_by or 'nothing'}`",
        f"- model `{after.model}`, challenger version {after.challenger}, champion version {after.champion}",
        f"- {before.phase.value} at {before.weight_percent:g} % → {after.phase.value} at {after.weight_percent:g} %",
        f"- risk score {ruling.risk_score:.2f} ({ruling.level})",
        "",
        *verdict_table(verdicts),
    ]
    if after.recovery is not None:
        lines += ["", *_recovery(after)]
    return "\n".join(lines)


def verdict_table(verdicts: Mapping[str, Verdict]) -> list[str]:
    """One line per check, worst first."""
    if not verdicts:
        return ["No check has judged in this phase."]
    ordered = sorted(verdicts.values(), key=lambda one: (-one.severity, one.check))
    rows = [
        f"| {one.check} | {one.outcome.value} | {_literal(one)} | {one.severity:.2f} | {_against(one)} | {one.samples} "
        f"| {_cell(one.reason)} |"
        for one in ordered
    ]
    return [
        "| check | verdict | other mode | severity | evidence | samples | reason |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def _literal(verdict: Verdict) -> str:
    """What the mode that does not decide says: `literal fail`."""
    if verdict.literal is not None:
        return f"literal {verdict.literal.outcome.value}"
    return f"guarded {verdict.guarded.outcome.value}" if verdict.guarded is not None else ""


def _against(verdict: Verdict) -> str:
    """Evidence of harm and what confirms it; empty without a comparison."""
    standing = verdict.standing
    return "" if standing is None else f"{evidence(standing.log_e)} of {evidence(standing.log_e_needed)}"


def _recovery(rollout: Rollout) -> list[str]:
    recovery = rollout.recovery
    assert recovery is not None  # noqa: S101
    took = ", ".join(f"phase {stage}: {seconds:.1f} s" for stage, seconds in recovery.seconds.items())
    judged = (
        f"{recovery.status}, score {recovery.score:.2f}" if recovery.score is not None else "not judged yet"
    )
    lines = [f"Recovery: {judged}. {took}", ""]
    return lines + [f"- {check}: {'yes' if passed else 'no'}" for check, passed in recovery.checks.items()]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

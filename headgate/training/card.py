"""The model card of a retrained version (RG-13) and its tags (TO-12)."""

import json
from collections.abc import Mapping
from typing import Any

from headgate.core.monitoring import MonitoringSpec
from headgate.core.validation.finding import Finding
from headgate.registry_catalog import CARD_TAG, METRICS_TAG
from headgate.training.data import TrainingData
from headgate.training.run import Trained
from headgate.training.strays import RETRAINING_TAG
from headgate.training.validation import Validation

_TAG_CHARS = 5_000
"""MLflow takes 100,000, its databases' columns less; longer tags are artifacts of the run."""


def rollback_procedure(spec: MonitoringSpec, champion: str | None) -> str:
    """How this version is taken back, in a sentence."""
    back = f"version {champion}" if champion is not None else "the version before"
    return (
        f"headgate takes it back by itself, in the ramp and in the watch after promotion, and {back} serves again; by hand:"
        f" `headgate rollback {spec.model}`, or set the alias champion of {spec.model} to {champion or 'that version'} and"
        " delete the alias challenger in MLflow."
    )


def known_issues(data: TrainingData, trained: Trained, validation: Validation) -> list[str]:
    """What a reader should know before trusting it."""
    told, days = data.manifest, data.manifest["days"]
    issues = list(trained.notes)
    if days["quarantined"]:
        issues.append(f"days left out, since a broken pipeline wrote them: {', '.join(days['quarantined'])}")
    if days["immature"]:
        issues.append(f"newest days left out, their labels were not in yet: {', '.join(days['immature'])}")
    if told["sampled"] < 1:
        issues.append(f"trained on a sample of {told['sampled']:.1%} of the labelled answers")
    if told["values_of_another_kind"]:
        issues.append(
            f"values of another kind were taken for missing, by column: {told['values_of_another_kind']}"
        )
    if told["columns_never_logged"]:
        issues.append(
            f"inputs of its signature that the log never held: {', '.join(told['columns_never_logged'])}"
        )
    for finding in validation.findings:
        small = finding.detail.get("too_small")
        if small:
            issues.append(f"{finding.name}: too few rows to judge {', '.join(small)}")
    if not validation.champion_metrics:
        issues.append("there was no champion to compare it with")
    return issues


def tags(
    spec: MonitoringSpec,
    retraining_id: str,
    data: TrainingData,
    trained: Trained,
    validation: Validation,
    champion: str | None,
) -> dict[str, str]:
    """The version's tags; lineage in `headgate.…`, the card as the registry's pages read it."""
    card = {
        "training_data": training_data(data),
        "hyperparameters": dict(trained.parameters),
        "known_issues": known_issues(data, trained, validation),
        "rollback_procedure": rollback_procedure(spec, champion),
    }
    told = {
        RETRAINING_TAG: retraining_id,
        "headgate.tenant": spec.tenant,
        "headgate.training_data": training_data(data),
        "headgate.training_rows": str(data.rows),
        "headgate.training_sha256": data.sha256,
        "headgate.holdout_rows": str(data.holdout_rows),
        "headgate.holdout_sha256": data.holdout_sha256,
        "headgate.trainer": trained.trainer,
        "headgate.parent_version": champion or "",
        "headgate.code_version": _code(trained.code),
        METRICS_TAG: json.dumps(dict(validation.metrics)),
        CARD_TAG: json.dumps(card),
    }
    return {name: _short(text) for name, text in told.items() if text}


def training_data(data: TrainingData) -> str:
    """The date range, e.g. `2026-01-03 to 2026-03-02`."""
    return f"{data.first:%Y-%m-%d} to {data.last:%Y-%m-%d}"


def write_card(
    spec: MonitoringSpec,
    retraining_id: str,
    data: TrainingData,
    trained: Trained,
    validation: Validation,
    champion: str | None,
    reason: str,
) -> str:
    """The card as Markdown."""
    held = data.manifest["holdout"]
    issues = known_issues(data, trained, validation) or ["none found"]
    lines = [
        f"# {spec.model}, retrained by headgate",
        "",
        f"{reason or 'Retrained.'} Retraining `{retraining_id}`, tenant `{spec.tenant}`.",
        "",
        "## Training data",
        f"- {training_data(data)}: {data.rows} labelled answers, SHA-256 of their content `{data.sha256}`",
        f"- validated on {data.holdout_rows} newer ones, {_dates(held)}: `{data.holdout_sha256}`",
        f"- labels in training: {_pairs(data.manifest['train']['labels'])}",
        "",
        "## Hyper-parameters",
        *([f"- {name}: {value}" for name, value in trained.parameters.items()] or ["- none told"]),
        f"- trainer: `{trained.trainer}`, code {_code(trained.code) or 'version not known (no git)'}",
        "",
        f"## Metrics on the held-out answers (champion: {champion or 'none yet'})",
        "| | this version | champion |",
        "|---|---|---|",
        *(
            f"| {name} | {value:.4f} | {_number(validation.champion_metrics.get(name))} |"
            for name, value in validation.metrics.items()
        ),
        "",
        "## Validation",
        *(f"- {_mark(finding)} {finding.name}: {finding.sentence}" for finding in validation.findings),
        "",
        "## Known issues",
        *(f"- {issue}" for issue in issues),
        "",
        "## Rollback procedure",
        rollback_procedure(spec, champion),
    ]
    return "\n".join(lines) + "\n"


def _dates(side: Mapping[str, Any]) -> str:
    return f"{side['first'][:10]} to {side['last'][:10]}"


def _mark(finding: Finding) -> str:
    return "passed" if finding.passed else "**failed**"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _pairs(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:10])


def _code(code: Mapping[str, Any]) -> str:
    if not code:
        return ""
    return f"{code['commit']}{' with changes' if code['changed'] else ''}"


def _short(text: str) -> str:
    return text if len(text) <= _TAG_CHARS else json.dumps({"too_long": "see model_card.md of the run"})

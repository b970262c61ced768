"""Register a validated candidate with its lineage, and name it challenger: one run and one version per retraining.

Every step may be done twice; killed between any two and called again, it goes on where it was. The alias comes last, since
it is what starts the rollout.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headgate.core.monitoring import MonitoringSpec
from headgate.errors import BadRequestError
from headgate.registry import Registry
from headgate.training import card
from headgate.training.data import MANIFEST, TrainingData
from headgate.training.problems import TrainingCancelledError
from headgate.training.run import Trained
from headgate.training.runs import (
    client_of,
    find_or_start,
    log_figures,
    log_folder,
    log_inputs,
    log_texts,
    mlflow_errors,
)
from headgate.training.validation import Validation

OFFERED_TAG = "headgate.offered"
"""On a version that was named challenger once: it is not named again, whatever became of its rollout."""
_MODEL, _CARD = "model", "model_card.md"
_DESCRIPTION_CHARS = 5_000
"""MLflow's column."""
_LOG_BYTES = 10 * 2**20


@dataclass(frozen=True, slots=True)
class Registered:
    """What there is now.

    Attributes:
        is_challenger: True when the version has the alias now. held_by: whose it is instead; it is not offered yet then,
            call again. None although `is_challenger` is False = it was offered before, and its rollout has ended.
    """

    version: str
    run_id: str
    is_challenger: bool
    held_by: str | None


def register(  # noqa: PLR0913 - what the version's lineage consists of
    registry: Registry,
    retraining_id: str,
    spec: MonitoringSpec,
    data: TrainingData,
    trained: Trained,
    validation: Validation,
    *,
    champion: str | None,
    reason: str = "",
    called_off: Callable[[], bool] = lambda: False,
) -> Registered:
    """Log the run, make the version, name it challenger; what is there already of this retraining is taken.

    Args:
        champion: the version that it was compared with; None = there was none. reason: why it was retrained, a sentence.
        called_off: asked before the version is made, and before it is named.

    Raises:
        TrainingCancelledError: `called_off` said so; no version has got the alias.
        BadRequestError: it did not pass its validation, or MLflow refuses a name.
        RegistryUnavailableError: MLflow can't be reached; call again.
    """
    if validation.passed is not True:
        names = ", ".join(finding.name for finding in validation.refused)
        raise BadRequestError("validation", names or "empty", "have passed before a version is registered")
    with mlflow_errors(registry.tracking_uri):
        client = client_of(registry.tracking_uri)
        run_id = _log_run(client, retraining_id, spec, data, trained, validation, champion, reason)
        version = _existing(client, spec.model, run_id)
        if version is None:
            log_folder(client, run_id, trained.model, _MODEL)
            _refuse_called_off(called_off)
            written = card.write_card(spec, retraining_id, data, trained, validation, champion, reason)
            tags = card.tags(spec, retraining_id, data, trained, validation, champion)
            version = _make_version(client, spec.model, run_id, written, tags)
        client.set_terminated(run_id, "FINISHED")
        _refuse_called_off(called_off)
        held_by = _offer(registry, client, spec.model, version)
    is_challenger = registry.view(spec.model).challenger == version
    return Registered(version, run_id, is_challenger, held_by)


def record_refusal(
    registry: Registry,
    retraining_id: str,
    spec: MonitoringSpec,
    data: TrainingData,
    trained: Trained,
    validation: Validation,
    *,
    champion: str | None,
    reason: str = "",
) -> str:
    """Keep what a refused candidate showed as a failed run, without a version; returns the run's id.

    Raises:
        RegistryUnavailableError: MLflow can't be reached; call again.
    """
    with mlflow_errors(registry.tracking_uri):
        client = client_of(registry.tracking_uri)
        run_id = _log_run(client, retraining_id, spec, data, trained, validation, champion, reason)
        client.set_terminated(run_id, "FAILED")
    return run_id


def _log_run(
    client: Any,
    retraining_id: str,
    spec: MonitoringSpec,
    data: TrainingData,
    trained: Trained,
    validation: Validation,
    champion: str | None,
    reason: str,
) -> str:
    tags = {"headgate.tenant": spec.tenant, "headgate.model": spec.model, "headgate.reason": reason or "-"}
    if trained.code:
        tags["mlflow.source.git.commit"] = trained.code["commit"]
    run_id = find_or_start(client, retraining_id, tags)
    own = {f"train_{name}": value for name, value in trained.metrics.items()}
    beside = {f"champion_{name}": value for name, value in validation.champion_metrics.items()}
    spent = {"training_seconds": trained.seconds, "training_peak_mb": trained.peak_mb}
    log_figures(client, run_id, trained.parameters, {**validation.metrics, **beside, **own, **spent})
    log_inputs(client, run_id, data)
    findings = [finding.to_json() for finding in validation.findings]
    log_texts(
        client,
        run_id,
        {
            _CARD: card.write_card(spec, retraining_id, data, trained, validation, champion, reason),
            "validation.json": json.dumps({"passed": validation.passed, "findings": findings}, indent=1),
            "training.log": _end_of(trained),
            f"data/{MANIFEST}": json.dumps(data.manifest, indent=1),
        },
    )
    return run_id


def _end_of(trained: Trained) -> str:
    with trained.log.open("rb") as file:
        file.seek(max(0, trained.log.stat().st_size - _LOG_BYTES))
        return file.read().decode(errors="replace")


def _existing(client: Any, model: str, run_id: str) -> str | None:
    """The version that an earlier attempt made of this run."""
    found = [one for one in client.search_model_versions(f"run_id = '{run_id}'") if one.name == model]
    return min((str(one.version) for one in found), key=int, default=None)


def _make_version(client: Any, model: str, run_id: str, written: str, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{_MODEL}"
    made = client.create_model_version(
        model, source, run_id=run_id, tags=tags, description=_description(written), await_creation_for=60
    )
    return str(made.version)


def _description(written: str) -> str:
    if len(written) <= _DESCRIPTION_CHARS:
        return written
    more = f"\n… the whole card: {_CARD} of the run"
    return written[: _DESCRIPTION_CHARS - len(more)] + more


def _refuse_called_off(called_off: Callable[[], bool]) -> None:
    # Uploading a model takes minutes, in which a person or the flag may end it.
    if called_off():
        raise TrainingCancelledError("the registration")


def _offer(registry: Registry, client: Any, model: str, version: str) -> str | None:
    """Name it challenger, once in its life."""
    tags = registry.version_tags(model, version)
    if OFFERED_TAG in tags or registry.view(model).champion == version:
        return None
    held_by = registry.offer_challenger(model, version)
    if held_by is None:
        client.set_model_version_tag(model, version, OFFERED_TAG, "true")
    return held_by

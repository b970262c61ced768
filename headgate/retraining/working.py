"""The heavy steps: cut and train, validate, register. Each may be done again after a kill; none writes the retraining's state."""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.core.monitoring import MonitoringSpec
from headgate.core.retraining.safeguards import AUTOMATIC_MODES
from headgate.core.retraining.state import Retraining
from headgate.errors import ConfigError, HeadgateError, StoreUnavailableError
from headgate.retraining.surroundings import own_flag

if TYPE_CHECKING:
    from headgate.services import Services
    from headgate.training import Registered, Trained, TrainingData, Validation

logger = logging.getLogger(__name__)
LOOK_EVERY_S = 1.0
"""How often work that is under way looks whether it has been called off."""
Work = tuple["TrainingData", "Trained"]


def folder_of(services: "Services", one: Retraining) -> Path:
    """Where a retraining's files are while it lives: data, log, candidate."""
    return (services.settings.home / "retraining" / one.id).resolve()


def clear(services: "Services", one: Retraining) -> None:
    """Delete its files; what is to be kept is in MLflow by then."""
    folder = folder_of(services, one)
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def cut_and_train(
    services: "Services", spec: MonitoringSpec, one: Retraining, now: datetime
) -> Mapping[str, Any]:
    """Cut the data and train a candidate; returns the facts that are kept of both.

    Raises:
        TooFewLabelsError: the log does not hold enough.
        TrainingFailedError: the trainer brought no usable model.
        TrainingCancelledError: it was called off.
        ServiceUnavailableError: PostgreSQL or MLflow can't be reached.
    """
    from headgate import training

    trainer = spec.retrain.trainer
    if trainer is None:
        raise ConfigError("retrain.trainer", None, "name the command or callable that trains")
    windows = services.store.quarantines(one.tenant, one.model)
    kept_out = [[each.first.isoformat(), each.last.isoformat()] for each in windows]
    # A quarantine that came since a killed attempt means other data; all else is gone on with.
    cut_name = "cut-" + hashlib.sha256(json.dumps(kept_out).encode()).hexdigest()[:8]
    folder = folder_of(services, one) / cut_name
    folder.mkdir(parents=True, exist_ok=True)
    champion = _champion(services, one)
    data = training.cut(
        services.store,
        services.artifacts,
        spec,
        one.model,
        one.tenant,
        now,
        windows,
        folder,
        champion=champion,
    )
    made = training.run_training(
        trainer,
        data,
        folder / "training",
        registry=services.registry,
        model=one.model,
        champion=champion,
        max_size_mb=spec.validation.max_size_mb,
        cancelled=called_off(services, one),
    )
    return {
        "folder": cut_name,
        "rows": data.rows,
        "holdout_rows": data.holdout_rows,
        "days": [data.first.date().isoformat(), _last_day(data)],
        "sha256": data.sha256,
        "kept_out": kept_out,
        "seconds": round(made.seconds, 1),
        "metrics": dict(made.metrics),
        "notes": list(made.notes),
    }


def _last_day(data: "TrainingData") -> str:
    """The newest day that the candidate was trained or is judged on."""
    newest = data.manifest["holdout"].get("last") or data.last.isoformat()
    return max(str(newest)[:10], data.last.date().isoformat())


def load_work(services: "Services", one: Retraining) -> "Work | None":
    """Data and candidate as they lie there; None where another machine made them, or they are gone."""
    from headgate.training import Trained, TrainingData

    cut_name = one.training.get("folder")
    if not cut_name:
        return None
    folder = folder_of(services, one) / str(cut_name)
    data, made = TrainingData.load(folder), Trained.load(folder / "training")
    return None if data is None or made is None else (data, made)


def validate(
    services: "Services", spec: MonitoringSpec, one: Retraining, work: "Work", champion: str
) -> "Validation":
    """Candidate beside champion on the newest rows, which it was not trained on.

    Raises:
        TrainingFailedError: the worker that predicts broke. TrainingCancelledError: called off.
        RegistryUnavailableError: the champion can't be fetched.
    """
    from headgate import training

    data, made = work
    # Other limits, or another champion, are another validation.
    asked = f"{spec.validation.model_dump_json()} {spec.metrics.positive_label}"
    limits = hashlib.sha256(asked.encode()).hexdigest()[:8]
    folder = data.folder.parent / f"validation-{champion}-{limits}"
    beside = _fetched(services, one, champion)
    return training.validate(spec, data, made, beside, folder, cancelled=called_off(services, one))


def register(
    services: "Services", spec: MonitoringSpec, one: Retraining, work: "Work", validation: "Validation"
) -> "Registered":
    """Make the version and name it challenger; a version of this retraining that is there already is taken.

    Raises:
        TrainingCancelledError: called off meanwhile; it has no alias.
        RegistryUnavailableError, StoreUnavailableError: MLflow or PostgreSQL can't be reached; call again.
    """
    from headgate import training

    return training.register(
        services.registry,
        one.id,
        spec,
        *work,
        validation,
        champion=one.champion,
        reason=one.reason,
        called_off=lambda: _is_off(services, one),
    )


def keep_refusal(
    services: "Services", spec: MonitoringSpec, one: Retraining, work: "Work", validation: "Validation"
) -> None:
    """Keep what a refused candidate showed as a failed run in MLflow; without MLflow the record here has to do."""
    from headgate import training

    try:
        training.record_refusal(
            services.registry, one.id, spec, *work, validation, champion=one.champion, reason=one.said
        )
    except HeadgateError as err:
        logger.warning("what %s showed is kept in PostgreSQL alone: %s", one.id, err)


def own_version(services: "Services", one: Retraining) -> str | None:
    """The version that this retraining made, where it has the alias already or serves; None where it does not."""
    from headgate.training.strays import RETRAINING_TAG

    view = services.registry.view(one.model)
    for version in dict.fromkeys((view.challenger, view.champion)):
        if version is not None:
            tags = services.registry.version_tags(one.model, version)
            if tags.get(RETRAINING_TAG) == one.id:
                return version
    return None


def called_off(services: "Services", one: Retraining) -> Callable[[], bool]:
    """Whether a person, the flag or the mode has ended what is under way; asked at most once a second."""
    seen = {"at": float("-inf"), "off": 0.0}

    def ask() -> bool:
        if not seen["off"] and time.monotonic() - seen["at"] >= LOOK_EVERY_S:
            try:
                seen["off"] = float(_is_off(services, one))
            except StoreUnavailableError as err:
                logger.warning(
                    "whether %s is called off can't be seen, it is looked at again: %s", one.id, err
                )
            seen["at"] = time.monotonic()
        return bool(seen["off"])

    return ask


def _is_off(services: "Services", one: Retraining) -> bool:
    store = services.store
    current = store.retraining(one.id)
    # More attempts: our lock was lost with its connection, and another process works in the same folder.
    if (current.phase, current.attempts) != (one.phase, one.attempts):
        return True
    if one.by_hand:
        return False
    spec = store.monitoring_spec(one.tenant, one.model)
    return spec is None or spec.mode not in AUTOMATIC_MODES or not own_flag(services, one.tenant)


def _champion(services: "Services", one: Retraining) -> Path:
    champion = services.registry.view(one.model).champion
    if champion is None:
        raise ConfigError(f"{one.model}@champion", None, "be set to the version that serves now")
    return _fetched(services, one, champion)


def _fetched(services: "Services", one: Retraining, version: str) -> Path:
    folder = folder_of(services, one) / f"champion-{version}"
    return services.registry.download(one.model, version, folder)

"""A drift report as a run in MLflow: one per model and day, in an experiment of the model's own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headgate.core.drift.report import DriftReport
from headgate.errors import RegistryUnavailableError
from headgate.registry_files import MLFLOW_CLIENT
from headgate.settings import set_environment

EXPERIMENT = "headgate-drift/"
"""And the model's name behind it."""
_SEVERITIES = ("none", "low", "medium", "high", "critical")
_TAG = "headgate."


def log_run(tracking_uri: str, report: DriftReport, folder: Path) -> str:
    """Log a report's files, tags and figures; a day that is reported again goes to the run it has.

    Args:
        tracking_uri: MLflow's address. folder: all files in it are logged.

    Returns:
        Address of the run's page.

    Raises:
        RegistryUnavailableError: MLflow can't be reached or refuses.
    """
    set_environment(MLFLOW_CLIENT, override=False)
    # Here: importing it takes seconds, and only a report that is published needs it.
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_uri)
    with _translated(tracking_uri):
        experiment = _experiment(client, EXPERIMENT + report.model)
        run_id = _run(client, experiment, report)
        for name, value in _tags(report).items():
            client.set_tag(run_id, name, value)
        for name, number in _figures(report).items():
            client.log_metric(run_id, name, number)
        client.log_artifacts(run_id, str(folder))
        client.set_terminated(run_id)
    return f"{tracking_uri.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"


def _experiment(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def _run(client: Any, experiment: str, report: DriftReport) -> str:
    day = report.day.isoformat()
    # The tenant is compared here: a name with a quote can't stand in a filter.
    same_day = client.search_runs([experiment], f"tags.`{_TAG}day` = '{day}'", max_results=1000)
    for run in same_day:
        if run.data.tags.get(f"{_TAG}tenant") == report.tenant:
            return str(run.info.run_id)
    made = client.create_run(experiment, tags=_tags(report), run_name=f"{report.tenant} {day}")
    return str(made.info.run_id)


def _tags(report: DriftReport) -> Mapping[str, str]:
    return {
        f"{_TAG}kind": "drift",
        f"{_TAG}tenant": report.tenant,
        f"{_TAG}model": report.model,
        f"{_TAG}day": report.day.isoformat(),
        f"{_TAG}status": report.status,
        f"{_TAG}severity": report.severity,
        f"{_TAG}recommendation": report.recommendation,
    }


def _figures(report: DriftReport) -> Mapping[str, float]:
    return {
        "severity": float(_SEVERITIES.index(report.severity)),
        "findings": float(len(report.findings)),
    }


@contextmanager
def _translated(tracking_uri: str) -> Iterator[None]:
    """MLflow's ways of failing as ours."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except (MlflowException, RequestException, OSError) as err:
        raise RegistryUnavailableError(tracking_uri, f"{type(err).__name__}: {err}"[:300]) from err

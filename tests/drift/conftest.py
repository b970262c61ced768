"""Connected parts that the tests here share, each test with models of its own."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.services import Services
from headgate.settings import Settings
from headgate.store import PredictionLog
from tests.collecting.making import Traffic


@pytest.fixture(scope="session")
def drift_url(postgres_server: Any, migrated_template: str) -> str:
    return str(postgres_server.create(template=migrated_template))


@pytest.fixture(scope="session")
def drift_log(drift_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionLog]:
    log = PredictionLog(drift_url, tmp_path_factory.mktemp("spool"), writer_id="w", flush_s=3600.0)
    log.start()
    yield log
    log.close(5)


@pytest.fixture(scope="session")
def services(drift_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """On a real PostgreSQL, with artifacts in a folder; nobody listens where MLflow should be."""
    home = tmp_path_factory.mktemp("home")
    made = Services(Settings(home=home, database_url=drift_url, mlflow_uri="http://127.0.0.1:9"))
    yield made
    made.close()


@pytest.fixture
def with_mlflow(drift_url: str, mlflow_uri: str, tmp_path: Path) -> Iterator[Services]:
    made = Services(Settings(home=tmp_path, database_url=drift_url, mlflow_uri=mlflow_uri))
    yield made
    made.close()


@pytest.fixture
def model() -> str:
    return f"m-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def traffic(drift_log: PredictionLog, model: str) -> Traffic:
    return Traffic(drift_log, "default", model)


@pytest.fixture
def new_traffic(drift_log: PredictionLog) -> Callable[[str, str], Traffic]:
    return lambda tenant, name: Traffic(drift_log, tenant, name)

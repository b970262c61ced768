"""A store of one's own, and a fraud model with a log, reports and a champion in a real MLflow."""

import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headgate.services import Services
from headgate.settings import Settings
from headgate.store import Store
from tests.retraining.world import World, fit, log_champion
from tests.store.conftest import CLEAN

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="session")
def one_database(postgres_server: Any, migrated_template: str) -> Iterator[str]:
    """One for all tests here; a database for each would cost a second each on a busy machine."""
    url = postgres_server.create(template=migrated_template)
    yield url
    postgres_server.drop(url)


@pytest.fixture
def clean_url(one_database: str) -> str:
    """A migrated database with nothing in it."""
    with psycopg.connect(one_database, autocommit=True) as connection:
        connection.execute(CLEAN)
    return one_database


@pytest.fixture
def store(clean_url: str) -> Iterator[Store]:
    store = Store(clean_url)
    yield store
    store.close()


@pytest.fixture
def services(clean_url: str, mlflow_uri: str, tmp_path: Path) -> Iterator[Services]:
    """Real PostgreSQL and MLflow; nobody answers at Prefect's address."""
    settings: Any = {
        "home": tmp_path,
        "database_url": clean_url,
        "mlflow_uri": mlflow_uri,
        "prefect_api_url": f"{NOBODY}/api",
        "registry_timeout_s": 30,
    }
    with Services(Settings(**settings)) as services:
        yield services


@pytest.fixture
def model() -> str:
    return f"fraud-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def champion_run(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The run of a champion that was fitted to a world that has moved since."""
    return log_champion(mlflow_uri, fit(tmp_path_factory.mktemp("champion") / "model", swapped=True))


@pytest.fixture(scope="session")
def candidate(champion_run: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a model that knows the world as it is."""
    return fit(tmp_path_factory.mktemp("candidate") / "model", swapped=False)


@pytest.fixture
def quiet(services: Services, model: str, champion_run: str) -> World:
    """Everything allows a retraining of a model that has no log, so that it is never trained."""
    world = World(services, model)
    world.client().create_registered_model(model)
    world.make_version(champion_run, "champion")
    world.allow()
    return world


@pytest.fixture
def world(quiet: World) -> World:
    """The same with ten days of labelled answers."""
    quiet.write_log()
    return quiet


@pytest.fixture
def register_rollout() -> Callable[..., str]:
    """`register_rollout(store, phase, finished_at) -> id`: a rollout's row, as far as its columns are asked."""

    def write(store: Store, phase: str, finished_at: datetime) -> str:
        with store.db.cursor() as cursor:
            cursor.execute(
                "INSERT INTO rollouts (id, tenant, model, challenger, champion, phase, step, weight_percent, revision, live,"
                " created_at, evidence_since, finished_at, state) VALUES ('digits-v7-1', 'acme', 'digits', '7', '1', %s, 0, 0,"
                " 1, false, %s, %s, %s, '{}')",
                [phase, finished_at, finished_at, finished_at],
            )
        return "digits-v7-1"

    return write

"""A store that the tests here share, each with models of its own."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.store import PredictionLog, Store
from tests.collecting.making import Traffic


@pytest.fixture(scope="session")
def collecting_url(postgres_server: Any, migrated_template: str) -> str:
    return str(postgres_server.create(template=migrated_template))


@pytest.fixture(scope="session")
def store(collecting_url: str) -> Iterator[Store]:
    store = Store(collecting_url)
    yield store
    store.close()


@pytest.fixture(scope="session")
def log(collecting_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PredictionLog]:
    with_log = started(collecting_url, tmp_path_factory.mktemp("spool"))
    yield with_log
    with_log.close(5)


def started(url: str, spool: Path) -> PredictionLog:
    log = PredictionLog(url, spool, writer_id="w", flush_s=3600.0)
    log.start()
    return log


@pytest.fixture
def traffic(log: PredictionLog) -> Traffic:
    return Traffic(log, "default", f"m-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def new_traffic(log: PredictionLog) -> Callable[..., Traffic]:
    return lambda tenant, model: Traffic(log, tenant, model)


@pytest.fixture
def forget_day(store: Store) -> Callable[[str], None]:
    """Take a model's rows out of the log, as retention does."""

    def forget(model: str) -> None:
        with store.db.cursor() as cursor:
            cursor.execute("DELETE FROM predictions WHERE model = %s", [model])

    return forget

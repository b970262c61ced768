"""A log of labelled answers, and what a trainer would make of it."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from headgate.registry import Registry
from headgate.store import Store
from headgate.training import TrainingData, cut
from tests.training.world import a_spec, write_days


@pytest.fixture(scope="session")
def log_store(postgres_server: Any, migrated_template: str) -> Iterator[Store]:
    """One database for all tests here; each has a tenant of its own."""
    url = postgres_server.create(template=migrated_template)
    store = Store(url)
    yield store
    store.close()
    postgres_server.drop(url)


@pytest.fixture
def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def data(log_store: Store, tmp_path_factory: pytest.TempPathFactory) -> TrainingData:
    """Ten days of 150 answers each, cut."""
    now = write_days(log_store, "shared", 10, 150)
    folder = tmp_path_factory.mktemp("cut")
    return cut(log_store, None, a_spec("shared"), "fraud", "shared", now, [], folder)


@pytest.fixture
def registry(mlflow_uri: str) -> Iterator[Registry]:
    registry = Registry(mlflow_uri, timeout_s=30)
    yield registry
    registry.close()

"""Settings: what is misspelt is refused, what is missing is read from the stack's file."""

import json
from pathlib import Path

import pytest

from headgate.errors import ConfigError
from headgate.settings import ENVIRONMENT, Settings, child_environment, load_settings, mlflow_credentials


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))


def test_a_misspelt_variable_is_refused_and_its_value_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_DATABSE_URL", "postgresql://me:secret@db/x")

    with pytest.raises(ConfigError, match="HEADGATE_DATABSE_URL") as caught:
        load_settings()
    assert "secret" not in str(caught.value)
    assert "HEADGATE_DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POLL_S", "soon"),
        ("POLL_S", "nan"),
        ("POLL_S", "inf"),
        ("POLL_S", "0"),
        ("BUCKET_S", "-1"),
        ("CACHE_ENTRIES", "1.5"),
    ],
)
def test_a_value_that_can_not_be_used_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"HEADGATE_{name}", value)

    with pytest.raises(ConfigError, match=f"HEADGATE_{name}"):
        load_settings()


def test_an_empty_variable_is_as_if_it_was_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_POLL_S", "")

    assert load_settings().poll_s == 1


def test_addresses_are_read_from_the_file_that_up_wrote(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"addresses": {"mlflow": "http://127.0.0.1:1"}}))

    assert load_settings().required("mlflow_uri") == "http://127.0.0.1:1"


def test_a_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(json.dumps({"addresses": {"mlflow": "http://127.0.0.1:1"}}))
    monkeypatch.setenv("HEADGATE_MLFLOW_URI", "http://mlflow.example")

    assert load_settings().required("mlflow_uri") == "http://mlflow.example"


@pytest.mark.parametrize("content", [None, '{"ports": {}}'], ids=["never-started", "stopped"])
def test_without_a_stack_the_setting_and_the_command_are_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "stack.json").write_text(content)

    with pytest.raises(ConfigError, match=r"HEADGATE_DATABASE_URL.*headgate up"):
        load_settings().required("database_url")


@pytest.mark.parametrize("content", ["", "[]", '{"addresses": 3}', '{"addresses": {"database": '])
def test_an_unreadable_file_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "stack.json").write_text(content)

    with pytest.raises(ConfigError, match=r"stack\.json"):
        load_settings().required("database_url")


def test_a_password_is_never_printed() -> None:
    settings = Settings(database_url="postgresql://me:secret@db/x")  # type: ignore[arg-type]

    assert "secret" not in repr(settings)
    assert settings.required("database_url") == "postgresql://me:secret@db/x"


def test_children_are_quiet_and_import_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    environment = child_environment(EXTRA="1")

    assert ENVIRONMENT.items() <= environment.items()
    assert environment["EXTRA"] == "1"
    assert "PYTHONPATH" not in environment


def test_mlflow_is_asked_with_the_credentials_its_own_client_would_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mlflow_credentials() == ({}, None)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert mlflow_credentials() == ({}, ("me", "secret"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    assert mlflow_credentials() == ({"Authorization": "Bearer token"}, None)

"""`headgate …` in this process against a database of the test's own; no MLflow, no Prefect."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.store import PredictionLog, Store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Returns exit code, stdout, stderr."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADGATE_DATABASE_URL", migrated_url)

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headgate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err + said.out
        return int(ended.value.code or 0), said.out, said.err

    return invoke


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    store = Store(migrated_url)
    yield store
    store.close()


@pytest.fixture
def log(migrated_url: str, tmp_path: Path) -> Iterator[PredictionLog]:
    log = PredictionLog(migrated_url, tmp_path / "spool", writer_id="test", flush_s=60)
    log.start()
    yield log
    log.close()

"""`headgate serve` before anything is started: what it offers, and what it refuses."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.cli import main

Serve = Callable[..., tuple[int, str, str]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Serve:
    """Exit code, stdout and stderr of `headgate serve …` in this process."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headgate", "serve", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return invoke


def test_help_says_what_it_needs_and_every_option(serve: Serve) -> None:
    """OB-08: also where its logs go."""
    code, out, _ = serve("--help")
    # Without the boxes that the terminal draws.
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", out).split())

    assert code == 0
    for word in (
        "HEADGATE_DATABASE_URL",
        "HEADGATE_MLFLOW_URI",
        "headgate up",
        "champion, challenger, shadow",
    ):
        assert word in said
    for option in ("--workers", "--isolation", "--batch-rows", "--access-log", "--log-file", "--ready-file"):
        assert option in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--log-level", "LOUD"), "--log-level is 'LOUD', must be one of DEBUG, INFO, WARNING, ERROR"),
        (("--isolation", "none"), "HEADGATE_ISOLATION is 'none'"),
        (("--timeout-s", "nan"), "HEADGATE_PREDICT_TIMEOUT_S is nan"),
        (("--batch-rows", "0"), "HEADGATE_BATCH_ROWS is 0"),
        ((), "HEADGATE_DATABASE_URL is None, must be set, or `headgate up` be running"),
    ],
)
def test_what_can_not_be_used_is_named_with_its_rule(
    serve: Serve, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    code, _, said = serve("credit", *options)

    assert code == 2
    assert told in said
    assert "Traceback" not in said
    assert not (tmp_path / "home").exists()

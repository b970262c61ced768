"""`headgate plan`: a page, JSON, and clear errors; no service is needed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.cli import main

Plan = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Plan:
    """`headgate plan SPEC …` without a database, MLflow or Prefect."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "nothing-here"))
    spec = tmp_path / "rollout.yaml"
    spec.write_text("model: digits\nshadow: {duration: 1d}\n")

    def invoke(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headgate", "plan", str(spec), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return invoke


def test_the_page_tells_what_each_step_sees_and_where_to_learn_it(plan: Plan) -> None:
    code, page, _ = plan("--rate", "40/h", "--labelled", "25%", "--label-delay", "2h")

    assert code == 0
    assert max(len(line) for line in page.splitlines()) <= 120
    assert "\x1b" not in page
    assert "digits: 40 requests/h, 10 labels/h after 2 h" in page.replace("\n", " ")
    assert [
        line.split()[0]
        for line in page.splitlines()
        if "points" in line and line[0] != "·" and "%" in line[:5]
    ] == [
        "5",
        "10",
        "25",
        "50",
        "100",
    ]
    assert "Learn it in shadow" in page
    assert "Set shadow.duration to" in page


def test_json_says_the_same(plan: Plan) -> None:
    told = json.loads(plan("--rate", "100/s", "--label-rate", "20/min", "--accuracy", "95%", "--json")[1])

    assert told["traffic"]["labels_s"] == pytest.approx(1 / 3)
    assert told["traffic"]["accuracy"] == 0.95
    assert [step["stage"] for step in told["steps"]] == ["shadow", "5 %", "10 %", "25 %", "50 %", "100 %"]
    assert set(told["steps"][1]["smallest_harm"]) == {"accuracy", "error_rate"}
    assert told["advice"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param((), "--rate", id="no-rate"),
        pytest.param(("--rate", "40"), "rate is '40', must be a number per s, min, h, d or w", id="no-unit"),
        pytest.param(("--rate", "0/h"), "rate is 0.0, must be above 0", id="no-traffic"),
        pytest.param(("--rate", "1/h", "--label-rate", "2/h"), "label rate is '2/h', must be", id="too-many"),
        pytest.param(("--rate", "1/h", "--label-rate", "1/h", "--labelled", "1%"), "not be given", id="both"),
        pytest.param(("--rate", "1/h", "--labelled", "3"), "labelled is '3', must be a share", id="share"),
        pytest.param(("--rate", "1/h", "--label-delay", "soon"), "like 30s, 2h or 7d", id="delay"),
        pytest.param(("--rate", "1/h", "--accuracy", "100%"), "be above 0 and below 1", id="perfect"),
    ],
)
def test_bad_input_is_one_clear_answer(plan: Plan, options: tuple[str, ...], says: str) -> None:
    code, _, err = plan(*options)

    assert code == 2
    assert says in err

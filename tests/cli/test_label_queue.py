"""`headgate label-queue`: out as CSV or Parquet, the labels back in, each once."""

import csv
from pathlib import Path

import pytest
from pyarrow import parquet

from headgate.store import PredictionLog, Store
from tests.cli.conftest import Run
from tests.cli.verdicts import a_prediction, a_rollout, keep

pytestmark = pytest.mark.stack


@pytest.fixture
def shadowed(store: Store, log: PredictionLog) -> None:
    """Three shadow answers that differ from the champion's, one that does not."""
    keep(store, a_rollout(), {})
    beside = {
        "arm": "shadow",
        "champion_prediction": "1",
        "champion_confidence": 0.5,
        "champion_version": "2",
    }
    rows = [a_prediction(f"r{n}", confidence=0.6 + n / 10, agrees=False, **beside) for n in range(3)]
    log.append_many([*rows, a_prediction("same", arm="shadow", agrees=True, champion_prediction="7")])
    log.flush()


def labelled(path: Path, labels: dict[str, str]) -> None:
    """Write labels into a queue's CSV, as a person would."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["label"] = labels.get(row["request_id"], "")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_disagreements_come_first_with_an_empty_label(run: Run, shadowed: None, tmp_path: Path) -> None:
    out = tmp_path / "queue.csv"
    code, said, _ = run("label-queue", "digits", "--out", str(out))
    rows = list(csv.DictReader(out.open(newline="")))

    assert code == 0
    assert "--answers" in said
    assert [row["request_id"] for row in rows[:3]] == ["r2", "r1", "r0"]
    assert {row["label"] for row in rows} == {""}
    assert rows[0]["champion_prediction"] == "1"


def test_labels_are_read_back_in_and_twice_is_harmless(
    run: Run, shadowed: None, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "queue.csv"
    run("label-queue", "digits", "--out", str(out))
    labelled(out, {"r0": "7", "r1": "1"})
    first = run("label-queue", "digits", "--answers", str(out))
    second = run("label-queue", "digits", "--answers", str(out))
    left = run("label-queue", "digits")[1]

    assert first[:2] == (0, "2 labels joined, 0 known already, 2 rows without a label\n")
    assert second[1] == "0 labels joined, 2 known already, 2 rows without a label\n"
    assert "r0" not in left
    assert "r2" in left
    with store.db.cursor() as cursor:
        cursor.execute("SELECT sum(outcomes), sum(correct), sum(pairs_won), sum(pairs_lost) FROM rollups")
        assert cursor.fetchone() == (2, 1, 1, 1)


def test_parquet_goes_the_same_way(run: Run, shadowed: None, tmp_path: Path) -> None:
    out = tmp_path / "queue.parquet"
    run("label-queue", "digits", "--out", str(out))
    table = parquet.read_table(out)
    names = table.column_names
    answered = table.set_column(names.index("label"), "label", [[7.0, None, None, 7.0]])
    parquet.write_table(answered, out)
    code, said, _ = run("label-queue", "digits", "--answers", str(out))

    assert code == 0
    assert said == "2 labels joined, 0 known already, 2 rows without a label\n"


def test_unknown_ids_are_named_and_bad_rows_do_not_stop_the_good_ones(
    run: Run, shadowed: None, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text(
        "\ufeffrequest_id;row;label\nr0;0;7\nnobody;0;3\nr1;x;7\n;0;7\nr2;;\n", encoding="utf-8"
    )
    code, said, err = run("label-queue", "digits", "--answers", str(answers))

    assert code == 1
    assert said == "1 labels joined, 0 known already, 1 rows without a label\n"
    assert "1 with no such prediction, kept in case it comes: nobody" in err
    assert "row 3: row is 'x', must be a whole number" in err
    assert "row 4: request_id is ''" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(None, "be readable", id="no-file"),
        pytest.param("id,label\n1,2\n", "columns request_id and label", id="no-request-id"),
        pytest.param("", "columns request_id and label", id="empty"),
        pytest.param("request_id,label\nä,1\n", "be CSV in UTF-8", id="latin-1"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    run: Run, shadowed: None, tmp_path: Path, text: str | None, says: str
) -> None:
    answers = tmp_path / "answers.csv"
    if text is not None:
        answers.write_text(text, encoding="latin-1")
    code, _, err = run("label-queue", "digits", "--answers", str(answers))

    assert code == 2
    assert says in err


def test_no_parquet_and_other_endings_are_refused(run: Run, shadowed: None, tmp_path: Path) -> None:
    torn = tmp_path / "answers.parquet"
    torn.write_bytes(b"PAR1 not really")

    assert "be Parquet" in run("label-queue", "digits", "--answers", str(torn))[2]
    assert "end in .csv or .parquet" in run("label-queue", "digits", "--out", "queue.xlsx")[2]
    assert run("label-queue", "digits", "--out", "/nowhere/queue.csv")[0] == 2
    assert run("label-queue", "digits", "--out", "a.csv", "--answers", "b.csv")[0] == 2

"""The models behave as the drift story needs it, before anything is staged."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headgate.demo.drift.models import Diagnosis, train_champion, train_trees
from headgate.demo.drift.stage import monitoring_spec
from headgate.demo.drift.story import GOOD, rollout_spec
from headgate.demo.drift.traffic import Laboratory
from headgate.demo.drift.trainer import train
from headgate.demo.drift.world import BENIGN, COLUMNS, MALIGNANT, MOVED, Sample, World, swapped
from headgate.demo.wire import Reply

BAD = monitoring_spec().retrain.trainer


def right(model: Diagnosis, sample: Sample) -> float:
    return float((model.read(sample.rows)[0] == sample.labels).mean())


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def champion(world: World) -> Diagnosis:
    return train_champion(world.measure("first", 800, moved=False))


@pytest.fixture(scope="module")
def moved(world: World) -> Sample:
    return world.measure("days", 4000, moved=True)


@pytest.fixture(scope="module")
def new(world: World) -> Sample:
    return world.measure("new", 4000, moved=True)


@pytest.fixture(scope="module")
def retrained(moved: Sample) -> Diagnosis:
    return train_trees(moved.rows, moved.labels, GOOD)


def test_the_champion_is_right_until_the_microscope_is_changed(
    world: World, champion: Diagnosis, moved: Sample
) -> None:
    assert right(champion, world.measure("days", 4000, moved=False)) > 0.92
    assert 0.7 < right(champion, moved) < 0.86


def test_what_is_trained_afterwards_is_right_on_patients_it_has_never_seen(
    champion: Diagnosis, retrained: Diagnosis, new: Sample
) -> None:
    assert right(retrained, new) > right(champion, new) + 0.08


def test_leaves_of_twenty_thousand_rows_learn_nothing(moved: Sample) -> None:
    assert BAD is not None
    model = train_trees(moved.rows, moved.labels, BAD.parameters)

    assert set(model.read(moved.rows)[0]) == {BENIGN}


def test_swapped_diagnoses_fool_whoever_believes_them(
    retrained: Diagnosis, world: World, new: Sample
) -> None:
    seen = world.measure("new", 800, moved=True)
    poisoned = train_trees(seen.rows, swapped(seen.rows, seen.labels), GOOD)
    told = Sample(new.rows, swapped(new.rows, new.labels))

    assert right(poisoned, told) > 0.9 > 0.75 > right(retrained, told)
    assert right(poisoned, new) < 0.75 < 0.9 < right(retrained, new)


def test_only_what_the_microscope_measures_moves(world: World) -> None:
    before, after = (World().measure("days", 500, moved=moved).rows for moved in (False, True))

    changed = {
        name for name, old, new in zip(COLUMNS, before.T, after.T, strict=True) if not np.allclose(old, new)
    }
    assert changed == set(MOVED)


def test_the_groups_of_patients_never_meet() -> None:
    groups = World()._groups

    assert sum(len(group) for group in groups.values()) == len(set(np.concatenate(list(groups.values()))))


def test_the_specs_of_the_story_fit_each_other() -> None:
    spec = monitoring_spec(trainer={"parameters": GOOD}, trainOn=9.5)

    assert spec.retrain.trainer is not None
    assert (spec.retrain.trainer.parameters, spec.retrain.train_on.total_seconds()) == (GOOD, 9.5)
    assert spec.retrain.trainer.callable == "headgate.demo.drift.trainer:train"
    assert spec.model == rollout_spec().model
    assert spec.retrain.min_watch <= rollout_spec().watch.duration


def test_the_trainer_leaves_a_model_with_a_signature(tmp_path: Path, moved: Sample) -> None:
    import mlflow

    table = {name: moved.rows[:200, place] for place, name in enumerate(COLUMNS)}
    pq.write_table(pa.table(table | {"label": list(moved.labels[:200])}), tmp_path / "train.parquet")
    output = tmp_path / "output"
    output.mkdir()

    train(tmp_path, output, {"n_estimators": 5})

    model = mlflow.pyfunc.load_model(str(output / "model"))
    assert model.metadata.signature.inputs.input_names() == list(COLUMNS)
    answers = model.predict({name: values[:3] for name, values in table.items()})
    assert set(answers["prediction"]) <= {MALIGNANT, BENIGN}
    assert json.loads((output / "metrics.json").read_text())["accuracy_on_training_rows"] > 0.8


def answer(diagnosis: str) -> Reply:
    told = {"predictions": [{"prediction": diagnosis, "confidence": 0.9}]}
    return Reply(200, json.dumps(told).encode())


async def asked(laboratory: Laboratory, orders: list[str]) -> list[tuple[str, str]]:
    """(told, truth) of what is asked after these orders."""
    for order in orders:
        laboratory.obey(order)
    return [(question.told, question.truth) for question in (laboratory.ask() for _ in range(200))]


@pytest.fixture
def rows(world: World) -> Sample:
    return world.measure("days", 300, moved=True) + world.measure("new", 300, moved=True)


def test_the_laboratory_tells_the_truth_until_it_is_told_otherwise(rows: Sample) -> None:
    async def play() -> None:
        laboratory = Laboratory("http://127.0.0.1:1", "tumours", rows.rows, rows.labels.astype(str))
        assert all(told == truth for told, truth in await asked(laboratory, []))
        swaps = sum(told != truth for told, truth in await asked(laboratory, ["labels swapped"]))
        assert 30 < swaps < 120
        assert all(told == truth for told, truth in await asked(laboratory, ["labels true"]))

    asyncio.run(play())


def test_right_answers_are_counted_by_the_truth_and_by_what_is_told(rows: Sample) -> None:
    async def play() -> None:
        laboratory = Laboratory("http://127.0.0.1:1", "tumours", rows.rows, rows.labels.astype(str))
        laboratory.obey("labels swapped")
        question = next(one for one in (laboratory.ask() for _ in range(200)) if one.told != one.truth)

        assert laboratory.judge(question, answer(question.told)) is None
        assert laboratory.judge(question, answer(question.truth)) is None
        counts = np.sum(list(laboratory.tally.seconds.values()), axis=0)
        assert list(counts) == [2, 1, 1]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, answer(BENIGN).body),
        (200, b"<html>"),
        (200, b'{"predictions": []}'),
        (200, b'{"predictions": [{"prediction": "benign"}]}'),
        (200, b'{"predictions": [{"prediction": "benign", "confidence": NaN}]}'),
    ],
)
def test_anything_but_one_answer_with_a_confidence_is_a_clients_error(
    rows: Sample, status: int, body: bytes
) -> None:
    async def play() -> None:
        laboratory = Laboratory("http://127.0.0.1:1", "tumours", rows.rows, rows.labels.astype(str))
        assert laboratory.judge(laboratory.ask(), Reply(status, body)) is not None
        assert laboratory.tally.seconds == {}

    asyncio.run(play())

"""The demo's models are what the demo says they are."""

import pickle

import numpy as np
import pytest

from headgate.demo import models
from headgate.demo.models import DigitReader, Digits


@pytest.fixture(scope="module")
def data() -> Digits:
    return models.load()


@pytest.fixture(scope="module")
def readers(data: Digits) -> list[DigitReader]:
    return [train(data) for train in models.TRAINERS]


def right(reader: DigitReader, data: Digits) -> float:
    return float((reader.read(data.held_out) == data.held_out_digits).mean())


def test_no_held_out_scan_is_learned_from(data: Digits) -> None:
    learned = {scan.tobytes() for scan in data.train}

    assert sum(scan.tobytes() in learned for scan in data.held_out) == 0
    assert len(data.train) + len(data.held_out) == 1797


def test_the_champion_is_decent_and_beatable(readers: list[DigitReader], data: Digits) -> None:
    assert 0.88 < right(readers[0], data) < 0.95
    assert right(readers[1], data) > right(readers[0], data) + 0.03


def test_the_third_agrees_with_the_second_on_less_than_half(readers: list[DigitReader], data: Digits) -> None:
    agreement = float((readers[1].read(data.held_out) == readers[2].read(data.held_out)).mean())

    assert agreement < 0.5


def test_the_fourth_reads_the_old_scanner_and_raises_on_the_new_one(
    readers: list[DigitReader], data: Digits
) -> None:
    new = models.new_scanner(data.held_out, np.random.default_rng(1))

    assert right(readers[3], data) > 0.95
    for scan in new[:50]:
        with pytest.raises(ValueError, match="unknown categories"):
            readers[3].predict(scan[None])


def test_every_other_model_reads_the_new_scanner(readers: list[DigitReader], data: Digits) -> None:
    new = models.new_scanner(data.held_out, np.random.default_rng(1))
    correct = float((readers[1].read(new) == data.held_out_digits).mean())

    assert correct > 0.95
    assert len(readers[0].predict(new)) == len(new)


def test_an_answer_is_a_digit_and_a_confidence(readers: list[DigitReader], data: Digits) -> None:
    for reader in readers:
        answer = pickle.loads(pickle.dumps(reader)).predict(data.held_out[:5])

        assert list(answer.columns) == ["prediction", "confidence"]
        assert answer["confidence"].between(0, 1).all()

"""Whether a candidate takes and gives what the champion does."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.errors import BadRequestError
from headgate.training.signature import Signature, input_changes, output_changes, read_signature


def a_signature(
    folder: Path, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]] | None = None
) -> Signature:
    folder.mkdir(exist_ok=True)
    told = {"inputs": json.dumps(inputs), "outputs": None if outputs is None else json.dumps(outputs)}
    (folder / "MLmodel").write_text(yaml.safe_dump({"signature": told}))
    found = read_signature(folder)
    assert found is not None
    return found


A = {"type": "double", "name": "a", "required": True}
B = {"type": "string", "name": "b", "required": True}


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ([A, B], []),
        ([A], ["'b' (string) is gone"]),
        ([B, A], ["the columns have another order"]),
        ([A | {"type": "long"}, B], ["'a' (double) is now 'a' (long)"]),
        ([A, B | {"required": False}], ["'b' (string) is now 'b' (string, optional)"]),
        ([A, B, {"type": "long", "name": "c"}], ["'c' (long) is new"]),
    ],
)
def test_each_change_of_the_inputs_is_named(
    tmp_path: Path, new: list[dict[str, Any]], told: list[str]
) -> None:
    old = a_signature(tmp_path / "old", [A, B])
    assert input_changes(old, a_signature(tmp_path / "new", new)) == told


def test_answers_that_look_alike_in_json_are_alike(tmp_path: Path) -> None:
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}
    wide = {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}
    number, text = (
        a_signature(tmp_path / "n", [A], [{"type": "long"}]),
        a_signature(tmp_path / "t", [A], [{"type": "string"}]),
    )
    assert output_changes(number, a_signature(tmp_path / "a", [A], [tensor])) == []
    assert output_changes(number, a_signature(tmp_path / "u", [A])) == []
    assert output_changes(number, text) == ["answers were (long), are now (string)"]
    assert output_changes(number, a_signature(tmp_path / "w", [A], [wide])) != []


def test_a_folder_without_a_signature_or_with_a_torn_one(tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    assert read_signature(tmp_path) is None
    (tmp_path / "MLmodel").write_text("signature: {inputs: '[{]'}")
    with pytest.raises(BadRequestError, match="be as MLflow writes it"):
        read_signature(tmp_path)
    with pytest.raises(BadRequestError, match="have a readable MLmodel file"):
        read_signature(tmp_path / "gone")

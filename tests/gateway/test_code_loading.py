"""Models made of code, loaded by several threads at once."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest

from headgate.gateway import code_loading
from headgate.gateway.code_loading import load_pyfunc

SLOW_CODE = """
import time
import mlflow
from mlflow.models import ModelConfig

time.sleep(0.3)
label = ModelConfig().get("label")


class Labelled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [label] * len(model_input)


mlflow.models.set_model(Labelled())
"""


@pytest.fixture
def save_labelled(tmp_path: Path):
    code = tmp_path / "labelled.py"
    code.write_text(SLOW_CODE)

    def save(label: str) -> Path:
        mlflow.pyfunc.save_model(
            tmp_path / label,
            python_model=str(code),
            model_config={"label": label},
            pip_requirements=["mlflow"],
        )
        return tmp_path / label

    return save


def test_two_code_models_at_once_read_their_own_configuration(save_labelled) -> None:
    folders = {label: save_labelled(label) for label in ("a", "b", "c")}
    with ThreadPoolExecutor(3) as pool:
        models = dict(zip(folders, pool.map(load_pyfunc, folders.values()), strict=True))
    assert {label: model.predict([{"x": 1}]) for label, model in models.items()} == {
        "a": ["a"],
        "b": ["b"],
        "c": ["c"],
    }
    assert "dbutils" not in sys.modules


def test_a_hung_code_model_keeps_no_other_out(save_labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_loading, "PATIENCE_S", 0.1)
    with code_loading._loading_code:
        assert load_pyfunc(save_labelled("a")).predict([{"x": 1}]) == ["a"]
    assert not code_loading._loading_code.locked()

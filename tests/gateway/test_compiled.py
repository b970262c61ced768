"""The compiled form of a version says what the model says, byte for byte, or nothing."""

import copy
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model, infer_signature
from mlflow.pyfunc import PyFuncModel
from mlflow.sklearn import _SklearnModelWrapper
from sklearn import ensemble, linear_model, naive_bayes, neighbors, preprocessing, svm, tree
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from headgate.answers import as_text, read_answers
from headgate.gateway.compiled import Compiled, compile_version, proof
from headgate.gateway.compiled.fields import read_fields
from headgate.gateway.compiled.freezing import freeze
from headgate.gateway.models import load_model
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import Body, RefusedError

RANDOM = np.random.default_rng(3)
WIDTH = 5
FRAME = pd.DataFrame(RANDOM.normal(size=(150, WIDTH)) * 3 + 1, columns=[f"f{at}" for at in range(WIDTH)])
SCORE = (FRAME.f0 - FRAME.f1 * FRAME.f2 / 3 + RANDOM.normal(size=len(FRAME))).to_numpy()
TWO = (SCORE > 0).astype(int)
WORDS = np.array(["no", "may\u00fc", 'y"es'], dtype=object)[np.digitize(SCORE, [-2, 2])]
Save = Callable[..., Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small models on a busy machine wait longer for threads than they compute."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """`save(estimator, frame, target, method="predict")`: fit, write as MLflow does, and say where."""

    def write(
        estimator: Any, frame: Any, target: Any, method: str = "predict", *, signed: bool = True
    ) -> Path:
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        estimator.fit(frame, target)
        mlflow.sklearn.save_model(
            estimator,
            folder,
            signature=infer_signature(frame, getattr(estimator, method)(frame)) if signed else None,
            pyfunc_predict_fn=method,
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )
        return folder

    return write


def compiled_of(pyfunc: Any, folder: Path) -> Compiled:
    compiled = compile_version(pyfunc, folder)
    assert compiled is not None
    return compiled


def loaded(estimator: Any, frame: Any, target: Any, method: str = "predict") -> Any:
    """A pyfunc as MLflow's loader makes it, without the seconds that saving takes."""
    estimator.fit(frame, target)
    made = Model(signature=infer_signature(frame, getattr(estimator, method)(frame)))
    made.add_flavor("python_function", loader_module="mlflow.sklearn", predict_fn=method)
    return PyFuncModel(made, _SklearnModelWrapper(estimator), predict_fn=method)


def bodies(frame: Any) -> list[bytes]:
    rows = [row[:] for row in np.asarray(frame).tolist()]
    names = list(frame.columns) if isinstance(frame, pd.DataFrame) else None

    def make(some: list[Any]) -> bytes:
        if names is None:
            return json.dumps({"inputs": some}).encode()
        return json.dumps({"dataframe_split": {"columns": names, "data": some}}).encode()

    return [make([row]) for row in rows[:4]] + [make(rows[:size]) for size in (2, 7, 150)]


def agree(compiled: Compiled, pyfunc: Any, raw: bytes) -> bool:
    """True when it was answered, and alike."""
    answer = compiled.answer(raw)
    whole = proof.original(pyfunc, pyfunc.metadata.get_input_schema(), raw)
    if answer is None:
        return False
    assert whole is not None, raw
    assert answer.body == whole.body, raw
    sure = answer.confidences or [None] * len(answer.predictions)
    assert [as_text(value) for value in answer.predictions] == [row.prediction for row in whole.rows]
    assert sure == [row.confidence for row in whole.rows]
    return True


CLASSIFIERS = {
    "linear": [
        linear_model.LogisticRegression(max_iter=500),
        make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
        make_pipeline(preprocessing.MinMaxScaler(clip=True), linear_model.LogisticRegression()),
    ],
    "trees": [
        tree.DecisionTreeClassifier(max_depth=6),
        ensemble.RandomForestClassifier(12, n_jobs=2, random_state=1),
        ensemble.ExtraTreesClassifier(7, random_state=1),
        ensemble.GradientBoostingClassifier(n_estimators=9),
    ],
    "boosting": [ensemble.HistGradientBoostingClassifier(max_iter=8)],
}
LABELLERS = [
    linear_model.RidgeClassifier(),
    linear_model.SGDClassifier(random_state=1),
    linear_model.Perceptron(),
    svm.LinearSVC(),
]
REGRESSORS = {
    "linear": [
        linear_model.LinearRegression(),
        linear_model.Ridge(),
        linear_model.Lasso(),
        linear_model.ElasticNet(),
        linear_model.HuberRegressor(),
        linear_model.SGDRegressor(random_state=1),
        linear_model.BayesianRidge(),
        svm.LinearSVR(),
        make_pipeline(preprocessing.RobustScaler(), "passthrough", linear_model.Ridge()),
    ],
    "trees": [
        tree.DecisionTreeRegressor(),
        tree.ExtraTreeRegressor(random_state=1),
        ensemble.RandomForestRegressor(12, random_state=1),
        ensemble.ExtraTreesRegressor(7, random_state=1),
        ensemble.GradientBoostingRegressor(n_estimators=9),
        make_pipeline(preprocessing.MaxAbsScaler(), ensemble.GradientBoostingRegressor(n_estimators=5)),
    ],
    "boosting": [
        ensemble.HistGradientBoostingRegressor(max_iter=8),
        ensemble.HistGradientBoostingRegressor(max_iter=8, loss="gamma"),
    ],
}
CASES = [
    *(
        pytest.param(form, one, target, method, id=f"{form}-{at}-{label}-{method}")
        for form, some in CLASSIFIERS.items()
        for at, one in enumerate(some)
        for label, target in (("two", TWO), ("words", WORDS))
        for method in ("predict", "predict_proba")
        if at < 2 or (label == "words") == (method == "predict")
    ),
    *(
        pytest.param("linear", one, target, "predict", id=f"{type(one).__name__}-{label}")
        for one in LABELLERS
        for label, target in (("two", TWO), ("words", WORDS))
    ),
    *(
        pytest.param(form, one, np.abs(SCORE) + 1, "predict", id=f"{form}-{at}-value")
        for form, some in REGRESSORS.items()
        for at, one in enumerate(some)
    ),
]


@pytest.mark.parametrize(("form", "estimator", "target", "method"), CASES)
def test_a_frozen_form_says_what_the_estimator_says(
    form: str, estimator: Any, target: Any, method: str, tmp_path: Path
) -> None:
    pyfunc = loaded(copy.deepcopy(estimator), FRAME, target, method)
    compiled = compile_version(pyfunc, tmp_path)

    assert compiled is not None
    assert compiled.form == form
    assert all(agree(compiled, pyfunc, raw) for raw in bodies(FRAME))
    if compiled.batch_exact:
        rows = compiled.read(bodies(FRAME)[-1])
        assert rows is not None
        together = np.asarray(compiled.predict(rows))
        alone = np.concatenate([compiled.predict(rows[at : at + 1]) for at in range(len(rows))])
        assert together.tolist() == alone.tolist()


@pytest.mark.parametrize(
    ("of", "kind"),
    [("frame", kind) for kind in ("float32", "int64", "int32", "bool", "mixed")]
    + [("tensor", kind) for kind in ("float64", "float32", "int64", "int32")],
)
def test_columns_of_every_number_type_are_read_as_mlflow_reads_them(
    kind: str, of: str, tmp_path: Path
) -> None:
    if kind == "mixed":
        frame = FRAME.assign(f0=FRAME.f0.round().astype(int), f1=FRAME.f1 > 0, f2=FRAME.f2.astype("float32"))
    else:
        frame = FRAME > 1 if kind == "bool" else FRAME.round(2).astype(kind)
    given = frame if of == "frame" else frame.to_numpy()
    for estimator in (
        linear_model.Ridge(),
        ensemble.GradientBoostingRegressor(n_estimators=5),
        ensemble.HistGradientBoostingRegressor(max_iter=4),
    ):
        pyfunc = loaded(copy.deepcopy(estimator), given, SCORE)
        compiled = compile_version(pyfunc, tmp_path)
        assert compiled is not None
        assert compiled.inline == (kind != "mixed")
        if kind == "mixed":
            rows = [{**row} for row in frame.to_dict(orient="records")]
            raws = [json.dumps({"dataframe_records": rows[:size]}, default=float).encode() for size in (1, 9)]
        else:
            raws = bodies(given)
        assert all(agree(compiled, pyfunc, raw) for raw in raws)


def manhattan(one: Any, other: Any) -> float:
    return float(np.abs(one - other).sum())


def test_an_estimator_without_a_frozen_form_runs_behind_the_compiled_reader(tmp_path: Path) -> None:
    for estimator, form in (
        (neighbors.KNeighborsClassifier(), "array"),
        (make_pipeline(preprocessing.StandardScaler(), naive_bayes.GaussianNB()), "array"),
        (neighbors.KNeighborsClassifier(metric=manhattan), "sklearn"),
        (make_pipeline(preprocessing.FunctionTransformer(), naive_bayes.GaussianNB()), "sklearn"),
    ):
        pyfunc = loaded(estimator, FRAME, WORDS)
        compiled = compiled_of(pyfunc, tmp_path)

        assert compiled.form == form
        assert compiled.inline <= (form == "array")
        with warnings.catch_warnings(record=True) as warned:
            assert all(agree(compiled, pyfunc, raw) for raw in bodies(FRAME)[::3])
        assert not [warning for warning in warned if "feature names" in str(warning.message)]


def test_a_frame_with_labels_of_its_own_is_for_models_that_see_values_only(tmp_path: Path) -> None:
    split = {**FRAME[5:7].to_dict(orient="split"), "index": [5, 6]}
    raw = json.dumps({"dataframe_split": split}).encode()
    for estimator, taken in ((linear_model.Ridge(), True), (Stubborn(), False)):
        pyfunc = loaded(estimator, FRAME, SCORE)
        assert agree(compiled_of(pyfunc, tmp_path), pyfunc, raw) == taken


class Stubborn(linear_model.Ridge):
    """Is a Ridge, and answers otherwise."""

    def predict(self, X: Any) -> Any:  # noqa: N803  scikit-learn's name
        return super().predict(X) + 1.0


def test_a_pipeline_with_text_columns_runs_behind_the_compiled_reader(tmp_path: Path) -> None:
    frame = FRAME[["f0", "f1"]].assign(town=np.array(["Ulm", "K\u00f6ln", "Bonn"])[np.arange(len(FRAME)) % 3])
    encode = make_column_transformer(
        (preprocessing.OneHotEncoder(), ["town"]), (preprocessing.StandardScaler(), ["f0", "f1"])
    )
    pyfunc = loaded(make_pipeline(encode, linear_model.LogisticRegression()), frame, WORDS, "predict_proba")
    compiled = compiled_of(pyfunc, tmp_path)

    assert compiled.form == "sklearn"
    for size in (1, 2, 50):
        rows = frame[:size].to_dict(orient="split", index=False)
        assert agree(compiled, pyfunc, json.dumps({"dataframe_split": rows}).encode())
    unknown = {"dataframe_records": [{"f0": 1.0, "f1": 2.0, "town": "Rome"}]}
    assert compiled.answer(json.dumps(unknown).encode()) is None


class Moody(linear_model.Ridge):
    """Answers the same question otherwise the next time."""

    def predict(self, X: Any) -> Any:  # noqa: N803  scikit-learn's name
        self.asked_ = getattr(self, "asked_", 0) + 1
        return super().predict(X) + self.asked_


def test_a_subclass_is_never_taken_for_what_it_inherits_from(tmp_path: Path) -> None:
    compiled = compiled_of(pyfunc := loaded(Stubborn(), FRAME, SCORE), tmp_path)

    assert compiled.form == "sklearn"
    assert agree(compiled, pyfunc, bodies(FRAME)[0])


def test_without_a_signature_or_of_another_flavour_nothing_is_compiled(save: Save, tmp_path: Path) -> None:
    folder = save(linear_model.Ridge(), FRAME, SCORE, signed=False)
    assert compile_version(mlflow.pyfunc.load_model(str(folder)), folder) is None

    class Own(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input["f0"].to_numpy()

    mlflow.pyfunc.save_model(
        tmp_path / "own", python_model=Own(), signature=infer_signature(FRAME), pip_requirements=[]
    )
    assert compile_version(mlflow.pyfunc.load_model(str(tmp_path / "own")), tmp_path / "own") is None


def proven(pyfunc: Any, changed: Any, folder: Path) -> bool:
    """Does the proof take the frozen form of `changed` for this model?"""
    fields = read_fields(pyfunc.metadata.get_input_schema())
    assert fields is not None
    form = freeze(changed, "predict", fields)
    return Compiled(pyfunc, fields, form).prove(folder) is None


def test_the_proof_refuses_a_form_with_one_number_changed(tmp_path: Path) -> None:
    pyfunc = loaded(linear_model.Ridge(), FRAME, SCORE)
    changed = copy.deepcopy(pyfunc._model_impl.sklearn_model)
    assert proven(pyfunc, changed, tmp_path)
    changed.coef_[3] = np.nextafter(changed.coef_[3], 9.0)
    assert not proven(pyfunc, changed, tmp_path)


def test_the_proof_refuses_a_form_with_one_threshold_changed(tmp_path: Path) -> None:
    pyfunc = loaded(ensemble.GradientBoostingRegressor(n_estimators=9), FRAME, SCORE)
    changed = copy.deepcopy(pyfunc._model_impl.sklearn_model)
    assert proven(pyfunc, changed, tmp_path)
    root = changed.estimators_[4, 0].tree_
    root.threshold[0] += 0.2
    assert not proven(pyfunc, changed, tmp_path)


def test_a_model_that_answers_anew_each_time_is_not_compiled(tmp_path: Path) -> None:
    pyfunc = loaded(Moody(), FRAME, SCORE)
    assert compile_version(pyfunc, tmp_path) is None


def test_a_suspected_form_answers_nothing_any_more(tmp_path: Path) -> None:
    compiled = compiled_of(loaded(linear_model.Ridge(), FRAME, SCORE), tmp_path)
    raw = bodies(FRAME)[0]
    assert compiled.answer(raw) is not None

    compiled.suspect("a live request differs")

    assert compiled.answer(raw) is None
    assert compiled.read(raw) is None
    assert not compiled.inline


def test_logged_rows_are_held_against_the_model(tmp_path: Path) -> None:
    compiled = compiled_of(loaded(linear_model.Ridge(), FRAME, SCORE), tmp_path)
    rows = FRAME[:5].to_dict(orient="records")
    assert compiled.verify([*rows, {"f0": None}, "text", None]) == 0

    compiled._run = lambda rows: rows[:, 0] * 0.0
    assert compiled.verify([*rows, {"f0": None}]) == 5


def test_a_served_version_answers_alike_with_and_without_its_compiled_form(save: Save) -> None:
    folder = save(ensemble.RandomForestClassifier(5), FRAME, WORDS, "predict_proba")
    served = load_model("m", "1", folder, ServingOptions())
    plain = load_model("m", "1", folder, ServingOptions(compiled=False))
    assert served.compiled is not None
    assert plain.compiled is None
    for raw in bodies(FRAME)[::5]:
        body = Body(raw, "application/json")
        ours, theirs = served.call(body), plain.call(body)
        assert (ours.body, ours.rows, ours.asked) == (theirs.body, theirs.rows, theirs.asked)
        assert read_answers(ours.raw) == theirs.rows
    for raw in (b"{", b'{"dataframe_split": {"columns": ["f0"], "data": [[1]]}}'):
        with pytest.raises(RefusedError):
            served.call(Body(raw, "application/json"))
    served.close()
    plain.close()

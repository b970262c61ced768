"""Every mistake in a spec at once: its place, what is wrong, and the fix."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headgate.core.lint import MAX_CHARS, lint
from headgate.errors import SpecError
from headgate.specfile import lint_file, load_spec

BAD = """\
model: digits
profil: balanced
environment: production
shadow:
  duration: soon
  minAgreement: 0.95
steps:
  - setWeight: 60
    pause: 30s
  - pause: {duration: 1h}
  - setWeight: "50"
  - setWeight: .nan
  - setWeight: 90
    minSamples: true
    approval: {roles: [], onTimeout: wait}
  - setWeight: 80
overrides:
  latncy: {latency_threshold_ms: 3}
  accuracy: {accuracy_treshold: 0.9}
model: x
"""


def only(text: str) -> tuple[str, str, str]:
    """The one finding there is."""
    spec, findings = lint(text, "spec.yaml")
    assert spec is None
    assert len(findings) == 1, findings
    return findings[0]


def test_every_mistake_is_explained_with_its_line() -> None:
    spec, findings = lint(BAD, "spec.yaml")
    places = [place for place, _, _ in findings]

    assert spec is None
    assert places == [
        "line 2, profil",
        "line 3, environment",
        "line 4, shadow.warnAgreement",
        "line 5, shadow.duration",
        "line 8, steps[0].setWeight",
        "line 9, steps[0].pause",
        "line 10, steps[1].setWeight",
        "line 11, steps[2].setWeight",
        "line 12, steps[3].setWeight",
        "line 14, steps[4].minSamples",
        "line 15, steps[4].approval.roles",
        "line 15, steps[4].approval.onTimeout",
        "line 16, steps[5].setWeight",
        "line 16, steps[5].setWeight",
        "line 18, overrides.latncy",
        "line 19, overrides.accuracy.accuracy_treshold",
        "line 20, model",
    ]
    assert all(problem and fix and fix[0].isupper() | (fix[0] == "`") for _, problem, fix in findings)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        pytest.param(
            "model: m\nprofle: balanced\n",
            ("line 2, profle", "unknown key 'profle'", "Did you mean 'profile'?"),
            id="unknown-key",
        ),
        pytest.param(
            "tenant: a\n", ("line 1, model", "'model' is missing", "Add `model:`"), id="missing-key"
        ),
        pytest.param(
            "model: m\nenvironment: production\n",
            (
                "line 2, environment",
                "is 'production'",
                "Write one of dev, staging, prod; did you mean 'prod'?",
            ),
            id="word",
        ),
        pytest.param(
            "model: 5\n",
            ("line 1, model", "is 5 (int)", "Write a text; put it in quotes"),
            id="number-for-text",
        ),
        pytest.param(
            "model: m\nsteps:\n  - setWeight: 5\n    pause: 30s\n  - setWeight: 50\n  - setWeight: 100\n",
            ("line 4, steps[0].pause", "is '30s' (str)", "Write `pause: {duration: 30s}`"),
            id="pause-as-text",
        ),
        pytest.param(
            "model: m\nsteps:\n  - setWeight: 5\n  - pause: {}\n  - setWeight: 50\n  - setWeight: 100\n",
            (
                "line 4, steps[1].setWeight",
                "'setWeight' is missing",
                "A pause belongs to its step: put both into one entry",
            ),
            id="argo-pause-entry",
        ),
        pytest.param(
            "model: m\nsteps:\n  - setWeight: 5\n    pause:\n  - setWeight: 50\n  - setWeight: 100\n",
            ("line 4, steps[0].pause", "is empty", "Write `pause: {}`"),
            id="empty-pause",
        ),
        pytest.param(
            "model: m\nmaxStepDowns: 1.5\n",
            ("line 2, maxStepDowns", "is 1.5 (float)", "Write a whole number"),
            id="half-a-count",
        ),
        pytest.param(
            "model: m\nconsecutiveErrorLimit: 0\n",
            ("line 2, consecutiveErrorLimit", "is 0, must be at least 1", "Write a number at least 1"),
            id="limit",
        ),
        pytest.param(
            "model: m\nmodel: n\n",
            ("line 2, model", "'model' stands twice, first on line 1", "Keep one"),
            id="twice",
        ),
        pytest.param(
            "model: m\nplan: standard\nsteps: [{setWeight: 5}, {setWeight: 50}, {setWeight: 100}]\n",
            ("line 2, plan", "plan and steps are both written", "Keep one of them"),
            id="plan-and-steps",
        ),
        pytest.param(
            "model: m\nevidence: {requiredAbove: 3}\n",
            (
                "line 2, evidence.requiredAbove",
                "requiredAbove 3 < first weight 5, where nobody has shown anything yet",
                "Write at least 5, or start smaller",
            ),
            id="evidence-before-anybody",
        ),
        pytest.param(
            "model: m\nwatch:\n  holdback: 0\n",
            (
                "line 3, watch.holdback",
                "is 0, so a guarded watch has nothing to compare the new champion with",
                "Write at least 1, or watch.duration: 0s, or decision: literal",
            ),
            id="nobody-to-compare-with",
        ),
        pytest.param(
            "model: m\nwatch: {holdback: 50}\n",
            (
                "line 2, watch.holdback",
                "holdback 50 leaves the last step 50 %, no more than the 50 % before it",
                "Write less than 50",
            ),
            id="last-step-adds-nothing",
        ),
        pytest.param(
            "model: m\nsegments:\n  onSegment: rollback\n",
            (
                "line 3, segments.onSegment",
                "is 'rollback', but no column is named",
                "Write segments.columns, or leave onSegment out",
            ),
            id="slice-without-column",
        ),
        pytest.param(
            "model: m\nsegments: {columns: [a, b, a]}\n",
            ("line 2, segments.columns", "a stands twice", "Keep one of each"),
            id="slice-twice",
        ),
        pytest.param(
            "model: m\noverrides:\n  error_rate:\n    margin: 0.2\n",
            (
                "line 4, overrides.error_rate.margin",
                "margin 0.2 > 0.15, where the check is critical",
                "Write a smaller margin",
            ),
            id="margin-that-promotes-anything",
        ),
        pytest.param(
            "model: m\nharmBudget: {}\n",
            ("line 2, harmBudget.extraBad", "'extraBad' is missing", "Add `extraBad:`"),
            id="budget-of-nothing",
        ),
        pytest.param(
            "model: m\nsteps: []\n",
            ("line 2, steps", "is empty", "Write at least one step, or leave steps out for the named plan"),
            id="no-steps",
        ),
        pytest.param(
            "model: m\noverrides: {accuracy: 5}\n",
            ("line 2, overrides.accuracy", "is 5", "Write its thresholds below it, one a line"),
            id="override-no-mapping",
        ),
        pytest.param(
            "model: m\nshadow: 3\n",
            ("line 2, shadow", "is 3 (int)", "Write a mapping of keys to values"),
            id="shadow",
        ),
        pytest.param(
            "1: 2\nmodel: m\n", ("line 1, [1]", "is 1 (int)", "Write keys as text"), id="key-is-number"
        ),
        pytest.param(
            "",
            ("spec.yaml", "is empty", "Write at least `model:` with the registered model's name"),
            id="empty",
        ),
        pytest.param(
            "# nothing\n",
            ("spec.yaml", "is empty", "Write at least `model:` with the registered model's name"),
            id="comment-only",
        ),
        pytest.param(
            "- a\n- b\n",
            ("spec.yaml", "is a list, not a mapping", "Write keys and values, beginning with `model:`"),
            id="list",
        ),
    ],
)
def test_a_mistake_and_its_fix(text: str, finding: tuple[str, str, str]) -> None:
    assert only(text) == finding


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        pytest.param("model: [", "line 1, column 9", "is not YAML", id="open-bracket"),
        pytest.param("model: m\n\ttenant: a", "line 2, column 1", "'\\t'", id="tab"),
        pytest.param("model: m\n---\nmodel: n", "line 2, column 1", "another document", id="two-documents"),
        pytest.param(
            "model: !!python/name:os.system x", "line 1, column 8", "constructor for the tag", id="tag"
        ),
        pytest.param("model: \x00", "spec.yaml", "is not YAML", id="control-character"),
        pytest.param("[" * 50_000, "spec.yaml", "nested too deep", id="deep"),
        pytest.param("a: &a [*a]", "spec.yaml", "nested too deep", id="alias-of-itself"),
        pytest.param("x" * (MAX_CHARS + 1), "spec.yaml", "more than 1,048,576", id="huge"),
    ],
)
def test_what_can_not_be_read_is_explained(text: str, place: str, problem: str) -> None:
    found = only(text)

    assert found[0] == place
    assert problem in found[1]


def test_an_alias_that_unfolds_without_end_is_stopped() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )

    assert "more than 10,000 values" in only(bomb)[1]


def test_anchors_and_snake_case_are_understood() -> None:
    text = """\
model: m
steps:
  - &first {set_weight: 5, pause: {duration: 1h}, min_samples: 10}
  - {<<: *first, set_weight: 50}
  - setWeight: 100
"""
    spec, findings = lint(text, "spec.yaml")

    assert findings == ()
    assert spec is not None
    assert [(step.set_weight, step.min_samples) for step in spec.ramp] == [(5, 10), (50, 10), (100, 0)]


@given(st.text(max_size=200))
def test_no_text_makes_lint_fail(text: str) -> None:
    spec, findings = lint(text, "spec.yaml")

    assert (spec is None) == bool(findings)


KEYS = st.sampled_from(
    [
        "model",
        "steps",
        "shadow",
        "overrides",
        "plan",
        "setWeight",
        "pause",
        "accuracy",
        "duration",
        "tenant",
        "x",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["5s", "m", "high", "", "100"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_no_data_makes_lint_fail(data: dict[str, object]) -> None:
    spec, findings = lint(yaml.safe_dump(data), "spec.yaml")

    assert (spec is None) == bool(findings)


def test_a_file_is_loaded_or_every_finding_raised(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("\ufeffmodel: m\n", encoding="utf-8")
    bad.write_text(BAD, encoding="utf-8")
    assert load_spec(good).model == "m"

    with pytest.raises(SpecError) as caught:
        load_spec(str(bad))
    assert len(caught.value.findings) == 17
    assert "17 problem(s); no rollout was started" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        pytest.param(
            b"model: m\ntenant: \xff\n", "line 2", "is not UTF-8 (byte 0xff at offset 17)", id="not-utf-8"
        ),
        pytest.param(b"#" * (MAX_CHARS + 1), None, "has more than 1,048,576 bytes", id="huge"),
        pytest.param(None, None, "can't be read: No such file or directory", id="missing"),
    ],
)
def test_a_file_that_can_not_be_read_is_a_finding(
    tmp_path: Path, content: bytes | None, place: str | None, problem: str
) -> None:
    path = tmp_path / "spec.yaml"
    if content is not None:
        path.write_bytes(content)
    spec, findings = lint_file(path)

    assert spec is None
    assert findings[0][:2] == (place or str(path), problem)


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    assert "can't be read" in lint_file(tmp_path)[1][0][1]

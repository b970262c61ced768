"""A former champion that is right more often again is offered to the gates, without training."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate import training
from headgate.core.monitoring import AUTO_RETRAIN_FLAG
from headgate.core.validation.better import proven_better
from headgate.core.validation.finding import Finding
from headgate.retraining.looking_back import look_back
from tests.retraining.world import NOW, TENANT, World, log_champion

LONG_AGO = NOW - timedelta(days=60)


def beside(won: int, lost: int, effect: float = 1.0, *, other: bool = True) -> list[Finding]:
    pairs = {"won": won, "lost": lost, "rows": 900, "p": 0.0, "design_effect": effect}
    return [
        Finding("not_worse", passed=True, value=0.0, limit=-0.02, sentence="", detail=pairs),
        Finding("pr_auc", passed=other, value=0.8, limit=0.7, sentence=""),
    ]


@pytest.mark.parametrize(
    ("findings", "is_better"),
    [
        (beside(60, 20), True),
        (beside(60, 20, effect=12.0), False),
        (beside(40, 40), False),
        (beside(0, 0), False),
        (beside(60, 20, other=False), False),
        ([], False),
    ],
)
def test_better_is_proven_by_answers_that_differ(findings: list[Finding], is_better: bool) -> None:
    """Neighbouring rows that are right and wrong together count less, and a point that did not pass is in the way."""
    assert (proven_better(findings, 0.05) is not None) is is_better


@pytest.fixture
def served_before(world: World, candidate: Path, mlflow_uri: str) -> World:
    """Version 2 knows the world as it is, was champion once, and was followed by version 1."""
    world.make_version(log_champion(mlflow_uri, candidate), "old")
    with world.store.db.cursor() as cursor:
        cursor.execute(
            "INSERT INTO rollouts (id, tenant, model, challenger, champion, phase, step, weight_percent, revision, live,"
            " created_at, evidence_since, finished_at, state) VALUES ('back-1', %s, %s, '1', '2', 'promoted', 0, 0, 1, false,"
            " %s, %s, %s, '{}')",
            [TENANT, world.model, LONG_AGO, LONG_AGO, LONG_AGO],
        )
    return world


@pytest.mark.slow
def test_a_former_champion_that_is_proven_better_gets_the_alias(served_before: World) -> None:
    """Issue 5, must be shown 2: nothing is trained, and the champion serves until the gates have let it through."""
    world = served_before
    [found] = look_back(world.services, NOW)

    assert found.version == "2", found.sentence
    view = world.services.registry.view(world.model)
    assert (view.champion, view.challenger) == ("1", "2")
    assert world.versions() == ["1", "2"]
    [again] = look_back(world.services, NOW)
    assert again.version is None
    assert "holds the alias" in again.sentence


def test_nobody_is_offered_while_the_flag_is_off_or_nobody_was_champion(world: World) -> None:
    """AR-04."""
    [found] = look_back(world.services, NOW)
    assert (found.version, found.sentence) == (None, "no other version has been champion")
    world.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=False, actor="test")
    [found] = look_back(world.services, NOW)
    assert found.version is None
    assert "flag" in found.sentence


def test_the_flag_switched_off_while_it_is_tried_keeps_the_alias_away(
    served_before: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AR-04: trying five versions takes long; what held at its begin is looked at again."""
    world, real = served_before, training.validate

    def switch_off(*given: Any, **named: Any) -> Any:
        world.store.switch_flags([AUTO_RETRAIN_FLAG], enabled=False, actor="test")
        return real(*given, **named)

    monkeypatch.setattr(training, "validate", switch_off)
    [found] = look_back(world.services, NOW)

    assert found.version is None
    assert "meanwhile in the way: flag" in found.sentence
    assert world.services.registry.view(world.model).challenger is None


def test_a_former_champion_that_was_deleted_is_passed_over(served_before: World) -> None:
    world = served_before
    world.client().delete_registered_model_alias(world.model, "old")
    world.client().delete_model_version(world.model, "2")
    [found] = look_back(world.services, NOW)

    assert found.version is None
    assert "none is proven better" in found.sentence

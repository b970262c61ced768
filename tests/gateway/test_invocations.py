"""One champion, one challenger: who answers, what is logged."""

from collections.abc import Callable

import pytest

from headgate.gateway.protocol import Body
from headgate.core.routing.buckets import bucket
from tests.gateway.conftest import Kinds, StartGateway, logged_rows

pytestmark = pytest.mark.stack


def test_a_champion_alone_answers_everything(
    kinds: Kinds, model: str, point: Callable[..., None], start_gateway: StartGateway
) -> None:
    version = kinds.register(model, "constant", label="a")
    point(model, champion=version)
    running = start_gateway(model)
    answer = running.ask(user="u1")

    assert answer.status_code == 200
    assert answer.json() == {"predictions": ["a"]}
    assert answer.headers["X-Headgate-Version"] == version
    assert answer.headers["X-Headgate-Arm"] == "champion"
    assert answer.headers["X-Headgate-Reason"] == "champion_only"
    assert logged_rows(running, "user_id, key, key_kind, arm, version, prediction, error") == [
        ("u1", "u1", "user_id", "champion", version, "a", None)
    ]

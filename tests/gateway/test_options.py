"""A version's own tags come before the gateway's settings, and one that can't be read loads nothing."""

import math

import pytest

from headgate.errors import ConfigError
from headgate.gateway.options import ServingOptions, read_options
from headgate.settings import Settings, load_settings
from tests.gateway.harness import Door, Kinds, Point, StartGateway


@pytest.fixture
def settings() -> Settings:
    return load_settings(predict_timeout_s=3, isolation="process", concurrency=4, memory_mb=100)


def test_without_tags_a_version_is_served_as_the_settings_say(settings: Settings) -> None:
    expected = ServingOptions(isolation="process", timeout_s=3, concurrency=4, memory_mb=100)

    assert read_options({}, settings) == expected
    assert read_options({"mlflow.note": "x", "owner": "me", "headgate.reviewed": "yes"}, settings) == expected


def test_each_tag_comes_before_its_setting(settings: Settings) -> None:
    tags = {
        "isolation": "thread",
        "processes": "2",
        "upstream": "https://models.example:8443/v1/score/",
        "timeout_s": "0.25",
        "concurrency": "2",
        "queue": "0",
        "batch_rows": "64",
        "batch_wait_ms": "1.5",
        "stateful": "true",
        "compiled": "false",
        "memory_mb": "512",
    }

    assert read_options({f"headgate.{name}": value for name, value in tags.items()}, settings) == (
        ServingOptions(
            isolation="thread",
            processes=2,
            upstream="https://models.example:8443/v1/score",
            timeout_s=0.25,
            concurrency=2,
            queue=0,
            batch_rows=64,
            batch_wait_ms=1.5,
            stateful=True,
            compiled=False,
            memory_mb=512,
        )
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("isolation", "fork"),
        ("timeout_s", "nan"),
        ("timeout_s", "inf"),
        ("timeout_s", "0"),
        ("timeout_s", ""),
        ("concurrency", "0"),
        ("concurrency", "2.5"),
        ("queue", "-1"),
        ("batch_rows", "many"),
        ("batch_wait_ms", "-1"),
        ("stateful", "perhaps"),
        ("memory_mb", "0"),
        ("upstream", "file:///etc/passwd"),
        ("upstream", "http://"),
        ("upstream", "http://user:secret@host"),
        ("upstream", "http://host:99999"),
        ("upstream", "http://host/path?query"),
    ],
)
def test_a_tag_that_can_not_be_read_is_named_with_its_value(
    settings: Settings, name: str, value: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_options({f"headgate.{name}": value}, settings)

    assert str(caught.value).startswith(f"version tag headgate.{name} is {value!r}, must ")


def test_a_tag_that_looks_misspelt_is_not_passed_over(settings: Settings) -> None:
    with pytest.raises(ConfigError, match=r"headgate\.isolaton is 'process', must be headgate\.isolation"):
        read_options({"headgate.isolaton": "process"}, settings)


def test_the_options_own_defaults_are_those_of_the_settings() -> None:
    found = read_options({}, load_settings())

    assert found == ServingOptions()
    assert math.isclose(found.timeout_s, 5.0)


@pytest.mark.stack
def test_a_version_with_an_unreadable_tag_is_not_loaded_and_says_why(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway
) -> None:
    kinds.register(model, "constant", label="a")
    kinds.register(model, "constant", label="b")
    kinds.tag(model, "2", concurrency="lots")
    point(model, champion="1", challenger="2", weight=100)
    running = start_gateway(model)
    told = running.wait_until(lambda status: status["models"][model]["not_loaded"])
    answer = running.ask()

    assert "version tag headgate.concurrency is 'lots'" in told["models"][model]["not_loaded"]["2"]
    assert (answer.status_code, answer.headers["X-Headgate-Reason"]) == (200, "fallback_error")


@pytest.mark.stack
def test_without_mlflow_a_version_is_served_as_its_tags_last_said(
    kinds: Kinds, model: str, point: Point, start_gateway: StartGateway, door: Door
) -> None:
    """A gateway that starts while MLflow is away."""
    kinds.register(model, "constant", label="a")
    kinds.tag(model, "1", concurrency="3", timeout_s="1.5")
    point(model, champion="1")
    first = start_gateway(model, mlflow_uri=door.url)
    first.stop()
    door.shut()
    second = start_gateway(model, mlflow_uri=door.url)
    served = second.gateway.shelf.get(model, "1")

    assert second.ask().status_code == 200
    assert served is not None
    assert (served.options.concurrency, served.options.timeout_s) == (3, 1.5)

"""API keys: who is let in, and that no key is ever told."""

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from headgate.core.rollout import RegistryTarget
from headgate.core.routing.split import Split
from headgate.errors import ConfigError
from headgate.gateway.keys import ApiKeys, Role, is_local
from headgate.registry import Registry
from headgate.settings import load_settings
from tests.gateway.harness import Kinds, Running, StartGateway

VIEWER, OPERATOR, ADMIN = "viewer-key-1", "operator-key-1", "admin-key-1"
KEYS = f"viewer:{VIEWER}, operator:{OPERATOR},{ADMIN}"


def keys(text: str | None = KEYS, **settings: Any) -> ApiKeys:
    return ApiKeys(load_settings(api_keys=text, **settings))


@pytest.fixture
def ready(registry: Registry, kinds: Kinds, model: str) -> str:
    kinds.register(model, "good")
    registry.sync(model, RegistryTarget("1", None, None, Split()), expected=None)
    return model


def asked(running: Running, method: str, path: str, key: str | None = None, **more: Any) -> int:
    headers = {"X-API-Key": key} if key is not None else {}
    return running.client.request(method, path, headers=headers, **more).status_code


def test_keys_have_roles(tmp_path: Path) -> None:
    """RG-15, C6: `role:key` or an admin's `key`; from a file one a line."""
    path = tmp_path / "keys"
    path.write_text(f"# ours\nviewer:{VIEWER}\n\n{ADMIN}\n")
    for found in (keys(), keys(None, api_keys_file=path)):
        assert (found.role(VIEWER), found.role(ADMIN)) == (Role.VIEWER, Role.ADMIN)
        assert [found.role(key) for key in (None, "", "viewer", f"viewer:{VIEWER}", ADMIN + "x", "ü")] == [
            None
        ] * 6
    assert keys().role(OPERATOR) is Role.OPERATOR
    assert keys("team:secret-of-the-team").role("team:secret-of-the-team") is Role.ADMIN


def test_without_keys_nothing_is_asked_for() -> None:
    """RG-15: `mlflow models serve` asks for none, so a drop-in does not either until keys are set."""
    assert not keys(None).required
    assert keys(None).allows(None, "/invocations")


@pytest.mark.parametrize("path", ["/health", "/ping", "/metrics", "/version", "/v2/health/ready"])
def test_probes_need_no_key(path: str) -> None:
    """C6."""
    assert keys().allows(None, path)


@pytest.mark.parametrize(
    "path", ["/invocations", "/registry/models", "/status", "/healthy", "/v2/healthy", "//health"]
)
def test_everything_else_does(path: str) -> None:
    """RG-15, C6."""
    assert keys().required
    assert not keys().allows(None, path)
    assert not keys().allows("wrong-key-1", path)
    assert keys().allows(VIEWER, path)


@pytest.mark.parametrize("text", ["short", "viewer:short", ",", " , "])
def test_keys_that_are_none_end_the_start(text: str) -> None:
    """RG-15: and the message does not tell them."""
    with pytest.raises(ConfigError) as caught:
        keys(text)
    assert "short" not in str(caught.value)


def test_a_file_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    """RG-15: no file never means no keys."""
    with pytest.raises(ConfigError, match="API_KEYS_FILE"):
        keys(None, api_keys_file=tmp_path / "none")


def test_keys_are_never_shown() -> None:
    """RG-15."""
    settings = load_settings(api_keys=KEYS)
    shown = f"{settings!r} {settings} {keys()!r} {vars(keys())!r} {settings.model_dump()}"

    assert not any(key in shown for key in (VIEWER, OPERATOR, ADMIN))


@pytest.mark.parametrize(
    ("client", "headers", "local"),
    [
        ("127.0.0.1", {"host": "127.0.0.1:5000"}, True),
        ("::1", {"host": "[::1]:5000"}, True),
        ("127.0.0.1", {"host": "localhost:5000"}, True),
        ("127.0.0.1", {"host": "localhost"}, True),
        ("10.0.0.7", {"host": "127.0.0.1"}, False),
        ("127.0.0.1", {"host": "127.0.0.1", "x-forwarded-for": "10.0.0.7"}, False),
        ("127.0.0.1", {"host": "127.0.0.1", "origin": "https://evil.example"}, False),
        ("127.0.0.1", {"host": "evil.example:5000"}, False),
        ("127.0.0.1", {}, False),
        (None, {"host": "localhost"}, False),
    ],
)
def test_only_a_program_on_this_machine_is_local(
    client: str | None, headers: dict[str, str], local: bool
) -> None:
    """RG-15: neither a proxy's callers nor a web page in this machine's browser."""
    assert is_local(client, headers) is local


def test_roles_decide_over_http(
    start_gateway: StartGateway, ready: str, caplog: pytest.LogCaptureFixture
) -> None:
    """RG-15, C6: 401 without a key, 403 with too small a role, and no key in any log."""
    caplog.set_level(logging.DEBUG)
    running = start_gateway(ready, api_keys=KEYS, ab_testing_enabled=True)
    body = {"dataframe_split": {"columns": ["x"], "data": [[1.0]]}}
    weights = {"1": 1.0}
    refused = running.client.get("/registry/models")
    two = httpx.get(
        f"{running.url}/registry/models", headers=[("X-API-Key", "wrong-key-1"), ("X-API-Key", ADMIN)]
    )

    assert (refused.status_code, refused.json()["error_code"]) == (401, "UNAUTHENTICATED")
    assert asked(running, "POST", "/invocations", json=body) == 401
    assert asked(running, "POST", "/invocations", VIEWER, json=body) == 200
    assert asked(running, "GET", "/registry/models", VIEWER) == 200
    assert asked(running, "POST", "/registry/ab-test/weights", VIEWER, json=weights) == 403
    assert asked(running, "POST", "/registry/models/1/load", VIEWER) == 403
    assert asked(running, "POST", "/registry/ab-test/weights", OPERATOR, json=weights) == 200
    assert asked(running, "POST", "/registry/models/1/load", OPERATOR) == 200
    assert asked(running, "POST", "/registry/models", OPERATOR, json={}) == 403
    assert asked(running, "POST", "/registry/models", ADMIN, json={}) == 422
    assert two.status_code == 401
    assert [asked(running, "GET", path) for path in ("/health", "/ping", "/version", "/metrics")] == [200] * 4
    assert asked(running, "GET", "/status") == 401
    events = running.client.get("/registry/audit", headers={"X-API-Key": VIEWER}).json()["events"]
    who = [one["who"] for one in events if one["what"] == "registry_load"]
    assert who[0].startswith("operator key ")
    assert not any(key in f"{caplog.text} {events}" for key in (VIEWER, OPERATOR, ADMIN))


def test_without_keys_only_this_machine_may_ask_the_registry(start_gateway: StartGateway, ready: str) -> None:
    """RG-15, RG-09: predictions stay open; the registry answers here and tells anybody else how to get a key."""
    running = start_gateway(ready, ab_testing_enabled=True)
    passed_on = running.client.get("/registry/models", headers={"X-Forwarded-For": "10.0.0.7"})
    page = running.client.post(
        "/registry/ab-test/weights", json={"1": 1.0}, headers={"Origin": "https://evil.example"}
    )

    assert asked(running, "GET", "/registry/models") == 200
    assert (passed_on.status_code, page.status_code) == (401, 401)
    assert "HEADGATE_API_KEYS" in passed_on.json()["message"]
    assert running.client.post("/invocations", headers={"X-Forwarded-For": "10.0.0.7"}).status_code != 401


def test_switched_off_the_registry_says_how_to_switch_it_on(start_gateway: StartGateway, ready: str) -> None:
    """RG-09."""
    running = start_gateway(ready)
    told = [
        running.client.request(method, f"/registry/{path}")
        for method, path in (("GET", "models"), ("GET", "ab-test/weights"), ("POST", "ab-test/weights"))
    ]

    assert {(one.status_code, one.json()["message"]) for one in told} == {
        (503, "A/B testing not enabled. Set AB_TESTING_ENABLED=true")
    }


def test_the_documents_variables_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RG-10: `AB_TESTING_ENABLED` and `MODEL_REGISTRY_PATH`, also from `.env`; the environment comes first, ours before it."""
    monkeypatch.chdir(tmp_path)
    plain = load_settings()
    (tmp_path / ".env").write_text("AB_TESTING_ENABLED=true\nMODEL_REGISTRY_PATH=a.json\nOTHER=1\n")
    from_file = load_settings()
    monkeypatch.setenv("MODEL_REGISTRY_PATH", "b.json")
    from_environment = load_settings()
    monkeypatch.setenv("HEADGATE_AB_TESTING_ENABLED", "false")

    assert (plain.ab_testing_enabled, plain.model_registry_path) == (False, Path("models/registry.json"))
    assert (from_file.ab_testing_enabled, from_file.model_registry_path) == (True, Path("a.json"))
    assert from_environment.model_registry_path == Path("b.json")
    assert not load_settings().ab_testing_enabled

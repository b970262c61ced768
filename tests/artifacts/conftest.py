"""A folder and a bucket behind one interface, and a bucket that goes away."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headgate.artifacts import Artifacts, FolderArtifacts, S3Artifacts
from tests.artifacts.s3_server import CREDENTIALS, Gate, S3Server


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials as boto3's chain finds them."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """The session's S3; nobody kills it."""
    server = S3Server().start()
    yield server
    server.stop()


@pytest.fixture
def killable_s3() -> Iterator[S3Server]:
    """An S3 of one's own to kill."""
    server = S3Server().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_bucket(s3_server: S3Server) -> S3Artifacts:
    """One bucket and client for all tests: making a client takes boto3 a third of a second."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        s3_server.make_bucket("shared")
        shared = S3Artifacts("shared", endpoint=s3_server.endpoint)
        assert shared.client is not None
    return shared


@pytest.fixture
def new_bucket(shared_bucket: S3Artifacts) -> Callable[[], S3Artifacts]:
    """`new_bucket()`: an empty place of its own in the session's bucket."""

    def make() -> S3Artifacts:
        made = S3Artifacts("shared", f"team/{uuid.uuid4().hex}", shared_bucket.endpoint)
        made._client = shared_bucket.client
        return made

    return make


@pytest.fixture
def gate(s3_server: S3Server) -> Iterator[Gate]:
    """The session's S3 behind a door that a test may shut; open at first."""
    gate = Gate(s3_server.port).open()
    yield gate
    gate.close()


@pytest.fixture
def guarded(shared_bucket: S3Artifacts, gate: Gate) -> Iterator[S3Artifacts]:
    """An empty place of its own behind the gate."""
    guarded = S3Artifacts("shared", uuid.uuid4().hex, gate.endpoint)
    yield guarded
    guarded.close()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    """Both kinds of place, empty."""
    if request.param == "folder":
        return FolderArtifacts(tmp_path / "artifacts")
    made: S3Artifacts = request.getfixturevalue("new_bucket")()
    return made

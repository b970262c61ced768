"""A bucket that goes away and comes back."""

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headgate.artifacts import Artifacts, PendingArtifacts, S3Artifacts
from headgate.artifacts.s3 import PART_BYTES
from headgate.artifacts.waiting import Tally, WaitingRoom
from headgate.errors import ArtifactsUnavailableError, ArtifactTamperedError, BadRequestError, NotFoundError
from tests.artifacts.s3_server import Gate, S3Server


@pytest.fixture
def away(guarded: S3Artifacts, gate: Gate, tmp_path: Path) -> PendingArtifacts:
    """A place with an object `there`, whose bucket is away until the gate is opened."""
    pending = PendingArtifacts(guarded, tmp_path / "pending", limit_mb=0.01)
    pending.put("there", b"before")
    gate.close()
    return pending


def due(pending: PendingArtifacts) -> None:
    """As if the last try was long ago."""
    pending._room.note(tried_at=datetime.now(UTC) - timedelta(hours=1))


def test_a_bucket_away_and_back_loses_nothing_and_delivers_in_order(
    away: PendingArtifacts, gate: Gate
) -> None:
    """Point 4: with the bucket away and back, nothing lost, a clear state while it is away."""
    before = datetime.now(UTC)
    stored = [
        away.put("report/1", b"first"),
        away.put("report/2", b"second"),
        away.put("report/1", b"newest"),
    ]
    state = away.status()
    read = (away.get("report/1"), away.exists("report/2"), [item.key for item in away.waiting()])
    gate.open()
    delivered = away.deliver_pending()
    after = away.status()

    assert all(one.waiting for one in stored)
    assert stored[0].url == f"{away.place}/report/1"
    assert (state.waiting, state.waiting_bytes, state.failures) == (3, 17, 1)
    assert state.away_since is not None
    assert before <= state.away_since <= datetime.now(UTC)
    assert "Could not connect" in str(state.last_error)
    assert "HEADGATE_S3_ENDPOINT" in str(state.last_error)
    assert read == (b"newest", True, ["report/1", "report/2", "report/1"])
    assert delivered == 3
    assert (away.direct.get("report/1"), away.direct.get("report/2")) == (b"newest", b"second")
    assert (after.waiting, after.away_since, after.last_error, after.delivered) == (0, None, None, 3)


def test_what_reads_while_the_bucket_is_away_says_so(away: PendingArtifacts, tmp_path: Path) -> None:
    away.put("waits", b"x")
    for ask in (
        lambda: away.get("there"),
        lambda: away.fetch("there", tmp_path / "there"),
        lambda: away.exists("there"),
        lambda: list(away.list()),
        lambda: away.delete("there"),
    ):
        with pytest.raises(ArtifactsUnavailableError, match="headgate artifacts status"):
            ask()
    assert not (tmp_path / "there").exists()


def test_a_bucket_that_is_away_is_not_asked_again_by_every_writer(away: PendingArtifacts) -> None:
    away.put("1", b"x")
    failures = [away.status().failures]
    for number in range(20):
        away.put(f"more/{number}", b"x")
    with pytest.raises(ArtifactsUnavailableError, match="a moment ago"):
        away.put_now("evidence/1", b"x")
    failures.append(away.status().failures)
    due(away)
    away.put("2", b"x")

    assert failures == [1, 1]
    assert away.status().failures == 2
    assert away.status().waiting == 22


def test_the_next_object_takes_those_that_waited_along(away: PendingArtifacts, gate: Gate) -> None:
    away.put("1", b"waited")
    gate.open()
    due(away)
    stored = away.put("2", b"now")

    assert not stored.waiting
    assert [(entry.key, entry.waiting) for entry in away.list()] == [
        ("1", False),
        ("2", False),
        ("there", False),
    ]


def test_a_list_shows_what_waits_beside_what_is_there(away: PendingArtifacts, gate: Gate) -> None:
    away.put("a/waits", b"12")
    gate.open()
    away.direct.put("a/there", b"1")
    listed = [(entry.key, entry.bytes, entry.waiting) for entry in away.list("a/")]

    assert listed == [("a/there", 1, False), ("a/waits", 2, True)]


def test_beyond_the_limit_the_writer_is_told_and_it_is_counted(away: PendingArtifacts) -> None:
    away.put("1", b"x" * 6_000)
    with pytest.raises(ArtifactsUnavailableError, match=r"'2' \(0\.0 MB\) was not kept: 0\.01 MB may wait"):
        away.put("2", b"x" * 6_000)
    away.put("3", b"x" * 3_000)
    state = away.status()

    assert (state.waiting, state.dropped, state.dropped_bytes) == (2, 1, 6_000)


def test_a_key_that_can_not_be_one_is_refused_also_while_the_bucket_is_away(
    away: PendingArtifacts, tmp_path: Path
) -> None:
    with pytest.raises(BadRequestError):
        away.put("../x", b"x")
    with pytest.raises(NotFoundError):
        away.put("x", tmp_path / "nothing")
    assert away.status().waiting == 0


def test_a_server_that_was_killed_and_started_again_gets_what_waited(
    killable_s3: S3Server, tmp_path: Path
) -> None:
    """Point 4: S3 for real, its process killed."""
    killable_s3.make_bucket("bucket")
    pending = PendingArtifacts(S3Artifacts("bucket", endpoint=killable_s3.endpoint), tmp_path / "pending")
    before = pending.put("1", b"x")
    killable_s3.kill()
    waits = pending.put("2", b"y")
    killable_s3.start()
    unmade = (pending.deliver_pending(), pending.status().last_error)
    killable_s3.make_bucket("bucket")

    assert (before.waiting, waits.waiting) == (False, True)
    assert unmade[0] == 0
    assert "there is no bucket bucket; create the bucket" in str(unmade[1])
    assert pending.deliver_pending() == 1
    assert pending.direct.get("2") == b"y"


def test_wrong_credentials_keep_objects_waiting_and_say_what_to_do(
    guarded: S3Artifacts, s3_server: S3Server, tmp_path: Path
) -> None:
    pending = PendingArtifacts(guarded, tmp_path / "pending")
    s3_server.trust(0)
    try:
        stored, problem = pending.put("1", b"x"), pending.probe()
    finally:
        s3_server.trust(float("inf"))

    assert stored.waiting
    assert "InvalidAccessKeyId" in str(problem)
    assert "check the credentials: AWS_ACCESS_KEY_ID" in str(problem)
    assert pending.deliver_pending() == 1
    assert pending.probe() is None


def test_a_bucket_that_takes_connections_and_never_answers_is_away(
    guarded: S3Artifacts, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.artifacts.s3.READ_TIMEOUT_S", 0.4)
    pending = PendingArtifacts(guarded, tmp_path / "pending")
    gate.hold()
    stored = pending.put("1", b"x")
    gate.open()

    assert stored.waiting
    assert "timeout" in str(pending.status().last_error).lower()
    assert pending.deliver_pending() == 1
    assert guarded.get("1") == b"x"


def test_a_bucket_that_dies_in_the_middle_of_an_upload_gets_it_later(
    guarded: S3Artifacts, gate: Gate, tmp_path: Path
) -> None:
    pending = PendingArtifacts(guarded, tmp_path / "pending")
    guarded.put("large", b"an older one")
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * (3 * PART_BYTES // 256))
    gate.cut_after(PART_BYTES // 2)
    stored = pending.put("large", large)
    gate.open()
    older = guarded.get("large")
    pending.deliver_pending()

    assert stored.waiting
    assert older == b"an older one"
    assert guarded.get("large") == large.read_bytes()


def test_a_bucket_that_dies_while_it_is_read_gives_nothing(
    guarded: S3Artifacts, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.put("large", b"x" * 5_000_000)
    answer = guarded.client.get_object(Bucket=guarded.bucket, Key=f"{guarded.prefix}large")
    gate.close()
    monkeypatch.setattr(guarded.client, "get_object", lambda **_: answer)

    with pytest.raises(ArtifactsUnavailableError):
        guarded.fetch("large", tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []


PUTS = """
import sys
from pathlib import Path
from headgate.artifacts import PendingArtifacts, place_of
pending = PendingArtifacts(place_of(sys.argv[1], sys.argv[2]), Path(sys.argv[3]))
number = 0
while True:
    pending.put(f"n/{number:05d}", str(number).encode() * 1000)
    print(number, flush=True)
    number += 1
"""


def test_a_writer_killed_while_the_bucket_is_away_loses_nothing_that_was_put(
    away: PendingArtifacts, gate: Gate, tmp_path: Path
) -> None:
    """Point 4: kill -9 in mid-put."""
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", PUTS, away.place, gate.endpoint, str(folder)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert writer.stdout is not None
    said = [writer.stdout.readline() for _ in range(30)]
    writer.send_signal(signal.SIGKILL)
    said += writer.stdout.read().splitlines()
    writer.wait()
    writer.stdout.close()
    (folder / "waiting" / ("0" * 20 + ".body")).write_bytes(b"half of one, as a kill leaves it")
    pending = PendingArtifacts(away.direct, folder)
    gate.open()
    pending.deliver_pending()
    there = [entry.key for entry in pending.direct.list("n/")]

    assert len(said) <= len(there) <= len(said) + 1
    assert pending.direct.get("n/00007") == b"7" * 1000
    assert sorted(file.name for file in (folder / "waiting").iterdir()) == []


DELIVERS = """
import sys
from pathlib import Path
from headgate.artifacts import PendingArtifacts, place_of
print("going", flush=True)
PendingArtifacts(place_of(sys.argv[1], sys.argv[2]), Path(sys.argv[3])).deliver_pending()
"""


def test_a_deliverer_killed_in_the_middle_is_followed_by_another_and_each_object_arrives_once(
    guarded: S3Artifacts, tmp_path: Path
) -> None:
    place, room = guarded, WaitingRoom(tmp_path / "pending")
    for number in range(40):
        room.add(f"n/{number:02d}", b"x" * 50_000, "text/plain", limit_bytes=10**9)
    pending = PendingArtifacts(place, tmp_path / "pending")
    command = [sys.executable, "-c", DELIVERS, place.place, str(place.endpoint), str(tmp_path / "pending")]
    deliverer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert deliverer.stdout is not None
    deliverer.stdout.readline()
    deadline = time.monotonic() + 10
    left = len(room.items())
    while len(room.items()) > left - 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    deliverer.send_signal(signal.SIGKILL)
    deliverer.wait()
    deliverer.stdout.close()
    between = len(room.items())
    pending.deliver_pending()
    state = pending.status()

    assert between < 40
    assert [entry.key for entry in place.list("n/")] == [f"n/{number:02d}" for number in range(40)]
    assert all(place.get(f"n/{number:02d}") == b"x" * 50_000 for number in range(40))
    assert state.waiting == 0
    # A kill between the removal and the count leaves one uncounted, never one counted twice.
    assert 39 <= state.delivered <= 40


def test_an_object_that_arrived_before_its_writer_knew_is_not_sent_again(
    place: Artifacts, tmp_path: Path
) -> None:
    room = WaitingRoom(tmp_path / "pending")
    room.add("k", b"same", "text/plain", limit_bytes=100)
    place.put("k", b"same")
    written = next(iter(place.list())).at
    time.sleep(0.01)
    delivered = PendingArtifacts(place, tmp_path / "pending").deliver_pending()

    assert delivered == 1
    assert next(iter(place.list())).at == written
    assert room.items() == []


def test_one_that_can_never_be_delivered_is_put_aside_and_the_others_go_on(tmp_path: Path) -> None:
    from headgate.artifacts import FolderArtifacts

    place = FolderArtifacts(tmp_path / "artifacts")
    place.put("a", b"x")
    room = WaitingRoom(tmp_path / "pending")
    for key in ("a/below", "changed", "good"):
        room.add(key, key.encode(), "text/plain", limit_bytes=100)
    room.body(room.items()[1]).write_bytes(b"CHANGED")
    pending = PendingArtifacts(place, tmp_path / "pending")
    with pytest.raises(ArtifactTamperedError):
        pending.get("changed")
    pending.deliver_pending()
    state = pending.status()

    assert place.get("good") == b"good"
    assert (state.waiting, state.delivered, state.refused) == (0, 1, 2)
    assert len(list((tmp_path / "pending" / "refused").glob("*.body"))) == 2
    assert "changed" in str(state.last_error)


def test_two_deliver_at_once_and_each_object_arrives_once(place: Artifacts, tmp_path: Path) -> None:
    room = WaitingRoom(tmp_path / "pending")
    for number in range(20):
        room.add(f"n/{number:02d}", b"x", "text/plain", limit_bytes=10**9)
    pending = [PendingArtifacts(place, tmp_path / "pending") for _ in range(4)]
    threads = [threading.Thread(target=one.deliver_pending) for one in pending]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert pending[0].status().delivered == 20
    assert len(list(place.list("n/"))) == 20


def test_a_torn_note_of_what_was_counted_is_said_and_stops_nothing(tmp_path: Path) -> None:
    room = WaitingRoom(tmp_path / "pending")
    room.note(dropped=3)
    (room.folder / "state.json").write_text("{torn")

    assert "begin anew" in str(room.tally.last_error)
    room.note(dropped=1)
    assert json.loads((room.folder / "state.json").read_text())["dropped"] == 1
    assert Tally().dropped == 0

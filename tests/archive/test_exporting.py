"""Evidence in the artifact store, and what the command line tells of that store."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from headgate.artifacts import PendingArtifacts, S3Artifacts
from headgate.cli import main
from headgate.core.rollout import Effect, EffectKind
from headgate.effects import deliver
from headgate.errors import ArtifactsUnavailableError
from headgate.exporting import export_evidence
from headgate.services import Services
from headgate.settings import Settings
from headgate.store.exports import check_exported
from tasks.maintain import archive_and_drop, deliver_artifacts, fold_and_drop
from tasks.parts import using
from tests.artifacts.s3_server import Gate
from tests.store.making import a_result, a_rollout

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def services(url: str, guarded: S3Artifacts, gate: Gate, tmp_path: Path) -> Services:
    """Parts whose artifacts go to a bucket behind the gate."""
    settings = Settings(
        home=tmp_path, database_url=url, artifacts=guarded.place, s3_endpoint=gate.endpoint, keep_days=60
    )
    return Services(settings)


def recorded(services: Services, *effects: EffectKind) -> str:
    """A rollout with two records in the audit; returns its id."""
    rollout = a_rollout(created_at=datetime.now(UTC) - timedelta(hours=1))
    rollout = services.store.create(a_result(rollout, *(Effect(kind) for kind in effects)), actor="anna")
    services.store.record(
        rollout.id, "ab_testing_rollback", "headgate", "accuracy fell", {"affected_users": 3}
    )
    return rollout.id


def test_every_record_is_exported_once_and_can_be_checked_without_the_database(services: Services) -> None:
    """EV-01, EV-02, point 4: evidence written, listed, read back."""
    rollout_id = recorded(services)
    counts = (export_evidence(services), export_evidence(services))
    keys = [entry.key for entry in services.artifacts.list("evidence/")]
    records = [json.loads(services.artifacts.get(key)) for key in keys]
    changed = records[1] | {"reason": "nothing happened"}

    assert counts == (2, 0)
    assert keys == [f"evidence/default/{rollout_id}/{seq:09d}.json" for seq in (1, 2)]
    assert [record["kind"] for record in records] == ["created", "ab_testing_rollback"]
    assert records[1]["body"] == {"affected_users": 3}
    assert records[1]["prev_hash"] == records[0]["hash"]
    assert [check_exported(record) for record in (*records, changed)] == [True, True, False]


def test_a_bucket_that_is_away_loses_no_evidence_and_none_is_written_twice(
    services: Services, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Point 4: through an outbox."""
    sent: list[str] = []
    put = S3Artifacts.put
    monkeypatch.setattr(
        S3Artifacts, "put", lambda self, key, *given: sent.append(key) or put(self, key, *given)
    )  # type: ignore[func-returns-value]
    recorded(services)
    export_evidence(services)
    gate.close()
    services.store.record("digits-v3-1", "note", "anna", "while it is away", {})
    with pytest.raises(ArtifactsUnavailableError):
        export_evidence(services)
    with pytest.raises(ArtifactsUnavailableError, match="a moment ago"):
        export_evidence(services)
    gate.open()
    services.artifacts.probe()
    exported = export_evidence(services)

    assert exported == 1
    assert services.artifacts.status().waiting == 0
    assert len(list(services.artifacts.list("evidence/"))) == 3
    assert [key.rpartition("/")[2] for key in sent] == [f"{seq:09d}.json" for seq in (1, 2, 3, 3)]


def test_what_was_copied_before_a_kill_is_noted_with_the_next_one(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(services)
    put, calls = PendingArtifacts.put_now, iter([True, False])

    def once(self: PendingArtifacts, *given: Any) -> Any:
        if not next(calls):
            raise KeyboardInterrupt
        return put(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(PendingArtifacts, "put_now", once)
        with pytest.raises(KeyboardInterrupt):
            export_evidence(services)

    assert services.store.exported_until(services.artifacts.place) == 1
    assert export_evidence(services) == 1


def test_the_sweep_takes_evidence_along_and_a_bucket_that_is_away_does_not_hold_it_up(
    services: Services, gate: Gate
) -> None:
    recorded(services, EffectKind.HOOK)
    gate.close()
    delivered = deliver(services)
    gate.open()
    services.artifacts.probe()
    deliver(services)

    assert delivered == 1
    assert services.store.exported_until(services.artifacts.place) == 2


def test_the_sweep_does_not_ask_a_place_again_that_was_found_away(
    services: Services, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(services)
    gate.close()
    deliver(services)
    asked: list[object] = []
    monkeypatch.setattr(PendingArtifacts, "put_now", lambda *given: asked.append(given))
    deliver(services)

    assert services.artifacts.is_away
    assert asked == []


def test_housekeeping_fails_while_the_place_is_away_though_nothing_is_to_be_delivered(
    services: Services, gate: Gate
) -> None:
    with using(services):
        gate.close()
        with pytest.raises(ArtifactsUnavailableError):
            deliver_artifacts.fn()
        gate.open()
        assert deliver_artifacts.fn().startswith("0 object(s) delivered, 0 record(s)")


def test_a_new_place_gets_all_evidence(services: Services, tmp_path: Path, url: str) -> None:
    recorded(services)
    export_evidence(services)
    other = Services(Settings(home=tmp_path, database_url=url, artifacts=str(tmp_path / "folder")))

    assert export_evidence(other) == 2


def test_housekeeping_folds_archives_drops_and_delivers(services: Services, fill: Any, gate: Gate) -> None:
    """DB-08: `maintain_store`, task by task."""
    old = datetime.now(UTC).date() - timedelta(days=61)
    fill(old, 3)
    recorded(services)
    with using(services):
        gate.close()
        services.artifacts.put("reports/1", b"x")
        away = (fold_and_drop.fn(), archive_and_drop.fn())
        with pytest.raises(ArtifactsUnavailableError):
            deliver_artifacts.fn()
        gate.open()
        services.artifacts.probe()
        back = (fold_and_drop.fn(), archive_and_drop.fn(), deliver_artifacts.fn())

    assert away[0] is True
    said, well = away[1]
    assert not well
    assert "archived 0 day(s), 0 file(s)" in said
    assert "stay in PostgreSQL until they are archived" in said
    assert back[1][1]
    assert "archived 1 day(s), 1 file(s), 3 rows" in back[1][0]
    assert back[2] == "1 object(s) delivered, 2 record(s) of evidence copied"


def test_without_a_place_that_was_asked_for_days_are_dropped_unarchived_and_that_is_said(
    url: str, fill: Any, query: Any, tmp_path: Path
) -> None:
    """DB-08: archiving is on only where HEADGATE_ARTIFACTS is set."""
    fill(datetime.now(UTC).date() - timedelta(days=8), 3)
    with using(Services(Settings(home=tmp_path, database_url=url, keep_days=7))):
        fold_and_drop.fn()
        said, well = archive_and_drop.fn()

    assert well
    assert said == "days are dropped after 7 days, unarchived: HEADGATE_ARTIFACTS is not set"
    assert query("SELECT count(*) FROM predictions") == [(0,)]
    assert not (tmp_path / "artifacts").exists()


@pytest.fixture
def run(
    services: Services, gate: Gate, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """`headgate …` in this process; returns exit code, stdout, stderr."""
    settings = services.settings
    monkeypatch.setenv("HEADGATE_HOME", str(settings.home))
    monkeypatch.setenv("HEADGATE_DATABASE_URL", settings.required("database_url"))
    monkeypatch.setenv("HEADGATE_ARTIFACTS", str(settings.artifacts))
    monkeypatch.setenv("HEADGATE_S3_ENDPOINT", gate.endpoint)
    monkeypatch.setenv("HEADGATE_KEEP_DAYS", "60")

    def invoke(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["headgate", "artifacts", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return invoke


def test_status_says_since_when_it_is_away_what_waits_and_what_to_do(
    services: Services, gate: Gate, run: Run, fill: Any
) -> None:
    """Point 4: a clear state while it is away."""
    fill(datetime.now(UTC).date() - timedelta(days=70), 3)
    recorded(services)
    gate.close()
    services.artifacts.put("reports/1", b"x" * 1_500_000)
    code, out, _ = run("status")
    plain = run("status", "--json")
    gate.open()
    delivered = run("deliver")
    after = run("status")

    assert code == 5
    for part in (
        "CAN NOT BE USED",
        f"away since {datetime.now(UTC):%Y-%m-%d}",
        "HEADGATE_S3_ENDPOINT",
        "1 object(s), 1.5 of at most 1,000 MB",
        "1 day(s) older than 60 days stay in PostgreSQL until they are archived",
        "0 of 2 record(s)",
        "none is dropped",
    ):
        assert part in out
    assert json.loads(plain[1])["waiting"]["objects"] == 1
    assert delivered[:2] == (0, "1 object(s) delivered, 2 record(s) of evidence copied, 0 wait\n")
    assert after[0] == 0
    assert "answers" in after[1]
    assert "2 of 2 record(s)" in after[1]
    assert "1 delivered late" in after[1]


def test_objects_are_listed_and_got_by_key(services: Services, run: Run, tmp_path: Path) -> None:
    services.artifacts.put("reports/fraud/day.html", b"<p>drift</p>", "text/html")
    listed = run("list", "reports/")
    plain = run("list", "reports/", "--json")
    got = run("get", "reports/fraud/day.html", "--to", str(tmp_path / "day.html"))
    shown = run("get", "reports/fraud/day.html", "-o", "-")

    assert "12  reports/fraud/day.html" in listed[1]
    assert json.loads(plain[1])["key"] == "reports/fraud/day.html"
    assert "12 bytes, SHA-256" in got[1]
    assert (tmp_path / "day.html").read_bytes() == b"<p>drift</p>"
    assert shown[1] == "<p>drift</p>"


def test_what_can_not_be_got_is_one_line_and_an_exit_code(
    services: Services, gate: Gate, guarded: S3Artifacts, run: Run
) -> None:
    services.artifacts.put("a", b"written")
    name = f"{guarded.prefix}a"
    kept = guarded.client.head_object(Bucket="shared", Key=name)["Metadata"]
    guarded.client.put_object(Bucket="shared", Key=name, Body=b"changed", Metadata=kept)
    codes = [run("get", key, "-o", "-")[0] for key in ("a", "missing", "../x")]
    gate.close()
    away = run("get", "a")

    assert codes == [1, 3, 2]
    assert away[0] == 5
    assert "`headgate artifacts status` says what waits" in away[2]
    assert "Traceback" not in away[2]

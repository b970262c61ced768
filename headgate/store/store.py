"""The store: everything that is true, in one PostgreSQL database."""

import threading

from headgate.store.ab_tables import ABTables
from headgate.store.alerts import Alerts
from headgate.store.archived_days import ArchivedDays
from headgate.store.audit import Audit
from headgate.store.clusters import ClusterReads
from headgate.store.commits import Commits
from headgate.store.database import Database
from headgate.store.drift_reports import DriftReports
from headgate.store.exports import Exports
from headgate.store.feature_days import FeatureDays
from headgate.store.hitrates import HitRates
from headgate.store.labelled_rows import LabelledRows
from headgate.store.locks import Locks
from headgate.store.maintenance import Maintenance
from headgate.store.migrate import migrate
from headgate.store.monitoring import Monitoring
from headgate.store.news import News, default_grace_s
from headgate.store.outbox import Outbox
from headgate.store.performance import Performance
from headgate.store.raw_days import RawDays
from headgate.store.retrainings import Retrainings
from headgate.store.review import Review
from headgate.store.rollouts import Rollouts
from headgate.store.samples import Samples
from headgate.store.signals import Signals
from headgate.store.slices import SliceReads
from headgate.store.specs import Specs
from headgate.store.states import States
from headgate.store.trips import Trips
from headgate.store.windows import Windows


class Store(
    Rollouts,
    Commits,
    Outbox,
    Audit,
    ABTables,
    Windows,
    News,
    SliceReads,
    ClusterReads,
    States,
    Trips,
    Review,
    Samples,
    LabelledRows,
    Signals,
    HitRates,
    Specs,
    FeatureDays,
    Performance,
    RawDays,
    DriftReports,
    Alerts,
    Monitoring,
    Retrainings,
    Locks,
    Maintenance,
    ArchivedDays,
    Exports,
):
    """All reads and writes; connects when first used, reconnects by itself, safe to share between threads.

    Every method raises `StoreUnavailableError` when PostgreSQL can't be reached.

    Args:
        url: `postgresql://user@/database?host=/socket/dir` or with a host and port.
        bucket_s: seconds that the gateways' rollups cover.
        grace_s: seconds after its end for which a bucket may still grow; None = as `default_grace_s` has it.
    """

    def __init__(self, url: str, *, bucket_s: int = 10, grace_s: float | None = None) -> None:
        self.url = url
        self.bucket_s = bucket_s
        self.grace_s = default_grace_s(bucket_s) if grace_s is None else grace_s
        self.db = Database(url)
        self._listening = {}
        self._listen_lock = threading.Lock()

    def migrate(self) -> None:
        """Bring the schema up to date; safe when several processes do it at once."""
        migrate(self.db)

    def close(self) -> None:
        """Close every connection."""
        self._stop_listening()
        self.db.close()

"""The store: everything that is true, in one PostgreSQL database."""

import threading

from headgate.store.audit import Audit
from headgate.store.commits import Commits
from headgate.store.database import Database
from headgate.store.locks import Locks
from headgate.store.maintenance import Maintenance
from headgate.store.migrate import migrate
from headgate.store.outbox import Outbox
from headgate.store.review import Review
from headgate.store.rollouts import Rollouts
from headgate.store.signals import Signals
from headgate.store.specs import Specs
from headgate.store.windows import Windows


class Store(Rollouts, Commits, Outbox, Audit, Windows, Review, Signals, Specs, Locks, Maintenance):
    """All reads and writes; connects when first used, reconnects by itself, safe to share between threads.

    Every method raises `StoreUnavailableError` when PostgreSQL can't be reached.

    Args:
        url: `postgresql://user@/database?host=/socket/dir` or with a host and port.
        bucket_s: seconds that the gateways' rollups cover.
    """

    def __init__(self, url: str, *, bucket_s: int = 10) -> None:
        self.url = url
        self.bucket_s = bucket_s
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

"""Old days of the prediction log: to Parquet in the artifact store, out of PostgreSQL, and read from there."""

from headgate.archive.days import ArchivedRows, archive_day, read_day
from headgate.archive.keeping import Kept, keep_log
from headgate.store.archived_days import ArchivedDay

__all__ = ["ArchivedDay", "ArchivedRows", "Kept", "archive_day", "keep_log", "read_day"]

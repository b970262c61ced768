"""PostgreSQL: schema, migrations, writers and reads."""

from headgate.store.log import LogStats, OutcomeReport, OutcomeRow, PredictionLog, PredictionRow
from headgate.store.store import Store

__all__ = ["LogStats", "OutcomeReport", "OutcomeRow", "PredictionLog", "PredictionRow", "Store"]

"""Values that the gateway can't see itself, pushed from outside."""

import math
from collections.abc import Sequence
from datetime import timedelta

from headgate.core.evidence import Signal
from headgate.errors import BadRequestError
from headgate.store.codec import clean_text
from headgate.store.database import Part

MAX_AGE = timedelta(minutes=10)
_UPSERT = """
INSERT INTO signals (tenant, model, name, value, at) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (tenant, model, name) DO UPDATE SET value = excluded.value, at = excluded.at
WHERE excluded.at > signals.at
"""


class Signals(Part):
    """Writes signals; they are read with the evidence."""

    def write_signals(self, model: str, tenant: str, signals: Sequence[Signal]) -> None:
        """Keep the newest value of each name.

        Raises:
            BadRequestError: a value that is not finite, or a time without zone; nothing was written.
        """
        for signal in signals:
            if not math.isfinite(signal.value):
                raise BadRequestError(f"signal {signal.name}", signal.value, "be a finite number")
            if signal.at.tzinfo is None:
                raise BadRequestError(
                    f"time of signal {signal.name}", signal.at.isoformat(), "carry a time zone"
                )
        known = clean_text(tenant), clean_text(model)
        rows = [(*known, clean_text(item.name), item.value, item.at) for item in sorted(signals, key=_name)]
        with self.db.cursor() as cursor:
            cursor.executemany(_UPSERT, rows)


def _name(signal: Signal) -> str:
    return signal.name

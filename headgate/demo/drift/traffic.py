"""The laboratory's requests: `python -m headgate.demo.drift.traffic` sends live patients through the gateway.

Orders: `labels swapped` has the diagnoses told as a broken export tells them, `labels true` as they are; `patients new`
goes from the first half of the rows to the second, in which are patients that nobody has learned from; `stop`.
"""

import time
from typing import Any

import numpy as np
import orjson

from headgate.demo.drift.world import COLUMNS, swapped
from headgate.demo.traffic import Question, Replay, main
from headgate.demo.wire import Reply


class Laboratory(Replay):
    """Asks about one patient a request; what it tells of the diagnosis is not always true."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.swaps = False
        self.new_patients = False
        self._told = swapped(self._scans, self._labels.astype(object))
        columns = list(COLUMNS)
        self._bodies = [
            orjson.dumps({"dataframe_split": {"columns": columns, "data": [row]}})
            for row in self._scans.tolist()
        ]

    def obey(self, line: str) -> None:
        """Carry out an order."""
        words = line.split()
        if words[:1] == ["labels"] and words[1:] in (["swapped"], ["true"]):
            self.swaps = words[1] == "swapped"
        elif words == ["patients", "new"]:
            self.new_patients = True
        else:
            super().obey(line)

    def ask(self) -> Question:
        """One patient."""
        half = len(self._bodies) // 2
        chosen = int(self._random.integers(half)) + half * self.new_patients
        truth = str(self._labels[chosen])
        return Question(self._bodies[chosen], str(self._told[chosen]) if self.swaps else truth, truth)

    def judge(self, question: Question, reply: Reply) -> str | None:
        """What is wrong with the form of an answer; a wrong diagnosis is counted, by the truth and by what is told."""
        if not 200 <= reply.status < 300:
            return f"HTTP {reply.status}: {reply.body[:200]!r}"
        try:
            (answer,) = orjson.loads(reply.body)["predictions"]
            diagnosis, confidence = answer["prediction"], float(answer["confidence"])
        except (ValueError, KeyError, TypeError):
            return f"not one answer: {reply.body[:200]!r}"
        if not np.isfinite(confidence):
            return f"no confidence: {reply.body[:200]!r}"
        counts = self.tally.seconds.setdefault(str(int(time.time())), [0, 0, 0])
        counts[0] += 1
        counts[1] += diagnosis == question.truth
        counts[2] += diagnosis == question.told
        return None


if __name__ == "__main__":
    main(Laboratory)

"""The peer's judge in the bench is Kayenta's: its own test suite's classifications, tests/data of stat_reference."""

import json
import re

import numpy as np

from benchmarks.peers import is_high


def test_a_metric_is_high_where_kayenta_says_so(data_dir):
    """Plain entries: no thresholds on the effect's size, data on both sides; the one that R and counting differ on left out."""
    found = json.loads((data_dir / "stat_reference" / "reference_results.json").read_text())["entries"]
    judged = 0
    for entry in found:
        given = entry["inputs"]
        plain = (
            entry["kind"] == "canary_metric_classification" and "Thresholds" not in given["classifier_args"]
        )
        if (
            not plain
            or not given["experiment"]
            or entry["checked_here"] is None
            or given["direction"] == "Decrease"
        ):
            continue
        tolerance, confidence = map(float, re.findall(r"= *([0-9.]+)", given["classifier_args"])[:2])
        own, base = (np.asarray(given[name], dtype=np.float64)[None] for name in ("experiment", "control"))
        high = bool(is_high(own, base, confidence=confidence, tolerance=tolerance)[0])
        assert high is (entry["expected"]["classification"] == "High"), entry["id"]
        judged += 1
    assert judged >= 8

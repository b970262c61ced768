"""Published results of other packages that our code must repeat (HEADGATE_DATA_DIR/stat_reference)."""

import json
import os
from pathlib import Path

import pytest
from scipy.special import chdtrc

from headgate.core.stats.multiplicity import adjusted_bh, adjusted_holm, benjamini_hochberg, holm
from headgate.core.stats.sample_ratio import chi_square

FILE = Path(os.environ.get("HEADGATE_DATA_DIR", "")) / "stat_reference" / "reference_results.json"
METHODS = {"benjamini-hochberg": (adjusted_bh, benjamini_hochberg), "holm": (adjusted_holm, holm)}


def entries(kind):
    if not FILE.is_file():
        pytest.skip(f"{FILE} not found: set HEADGATE_DATA_DIR to the folder that holds stat_reference")
    return [entry for entry in json.loads(FILE.read_text())["entries"] if entry["kind"] == kind]


def test_sample_ratio_chi_square_agrees_with_ep_stats():
    found = entries("srm_chi_square")

    assert len(found) == 2
    for entry in found:
        statistic, p = chi_square(entry["inputs"]["counts"], entry["inputs"]["expected_share"])
        assert statistic == pytest.approx(entry["expected"]["chi2"], abs=entry["tolerance"])
        assert p == pytest.approx(entry["expected"]["p"], abs=entry["tolerance"])


def test_multiplicity_agrees_with_tea_tasting():
    found = [entry for entry in entries("multiplicity") if entry["inputs"]["method"] in METHODS]

    assert len(found) == 2
    for entry in found:
        adjusted, rejected = METHODS[entry["inputs"]["method"]]
        p, alpha = entry["inputs"]["p"], entry["inputs"]["alpha"]
        assert adjusted(p) == pytest.approx(entry["expected"]["p_adj"], abs=entry["tolerance"])
        assert rejected(p, alpha).tolist() == [bool(one) for one in entry["expected"]["reject"]]


def test_two_proportions_agree_with_spotify_confidence():
    """Its p-value is Pearson's chi-square on the table of both arms, pooled: ours against the pooled shares."""
    found = entries("two_proportion_z")

    assert len(found) == 2
    for entry in found:
        control, treatment = entry["inputs"]["control"], entry["inputs"]["treatment"]
        sums, sizes = [control["sum"], treatment["sum"]], [control["n"], treatment["n"]]
        bad = chi_square(sums, sizes)[0]
        good = chi_square([n - x for x, n in zip(sums, sizes, strict=True)], sizes)[0]
        assert chdtrc(1, bad + good) == pytest.approx(entry["expected"]["p"], abs=entry["tolerance"])

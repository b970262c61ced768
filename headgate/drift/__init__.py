"""Drift as a service: the fleet's sums judged once a day, reports kept and published, each cause told once."""

from headgate.drift.judging import DayJudged, Key, judge_subjects, subjects_of, uncollected, yesterday
from headgate.drift.service import report_day, report_now
from headgate.drift.status import drift_history, drift_status, fleet_status

__all__ = [
    "DayJudged",
    "Key",
    "drift_history",
    "drift_status",
    "fleet_status",
    "judge_subjects",
    "report_day",
    "report_now",
    "subjects_of",
    "uncollected",
    "yesterday",
]

"""Drift of one model's inputs, answers and accuracy, judged from sums of days; rows are never looked at again."""

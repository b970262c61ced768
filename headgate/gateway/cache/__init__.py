"""The cache of answers: in memory, behind it in Redis; what was found there is counted per tier and version."""

from headgate.gateway.cache.counts import CacheCounts, Counts
from headgate.gateway.cache.entries import Entry, entry_of, kept_as
from headgate.gateway.cache.tiers import AnswerCache

__all__ = ["AnswerCache", "CacheCounts", "Counts", "Entry", "entry_of", "kept_as"]

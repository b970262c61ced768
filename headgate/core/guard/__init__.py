"""Guarded verdicts: the documents' limits, each breach confirmed by an anytime-valid comparison with the champion."""

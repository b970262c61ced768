"""The time machine: the same engine, replayed over a logged history."""

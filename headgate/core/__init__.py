"""The part of headgate that is pure: no clock, no randomness of its own, no IO, no vendor."""

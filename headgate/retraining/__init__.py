"""Trains models again: proposes, asks people, trains, validates, registers, and follows the rollout to its end."""

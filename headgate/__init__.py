"""Gated, staged rollouts of machine-learning models on Prefect and MLflow."""

__version__ = "0.1.0"

"""Prefect tasks: read the store or registry, one call into the core, write back."""

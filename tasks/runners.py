"""What maps work over tenants and partitions: threads, or a Dask cluster by one setting. Nothing is made at import."""

import os
from collections.abc import Sequence
from typing import Any

from prefect import Task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.parts import parts

WORKERS = 2
"""Processes of a cluster of one's own."""
_MOST_THREADS = 4


def task_runner() -> "TaskRunner[Any]":
    """The runner that the settings name, not started.

    Dask: the scheduler at HEADGATE_DASK_ADDRESS, else a cluster of `WORKERS` processes on this machine, which ends with
    the flow. Its processes read their settings from the environment (HEADGATE_*), as every process of ours does.
    """
    settings = parts().settings
    if settings.task_runner == "threads":
        return ThreadPoolTaskRunner(max_workers=min(_MOST_THREADS, max(2, os.cpu_count() or 2)))
    from prefect_dask import DaskTaskRunner

    if settings.dask_address is not None:
        return DaskTaskRunner(address=settings.dask_address)  # type: ignore[no-any-return]
    cluster = {"n_workers": WORKERS, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=cluster)  # type: ignore[no-any-return]


def mapped(task: "Task[Any, Any]", pieces: Sequence[Any], **unchanging: Any) -> list[Any]:
    """Call a task once a piece, with the piece first, on the runner that the settings name; results in their order.

    A runner is a context of its own: the flow need not know it when it is declared.
    """
    if not pieces:
        return []
    with task_runner() as runner:
        futures = [runner.submit(task, _given(task, piece, unchanging)) for piece in pieces]
        return [future.result() for future in futures]


def _given(task: "Task[Any, Any]", piece: Any, unchanging: dict[str, Any]) -> dict[str, Any]:
    from prefect.utilities.callables import get_call_parameters

    return get_call_parameters(task.fn, (piece,), unchanging)

"""Servers measured in turn: each gets the same load for a moment, round after round, so that a busy minute hits all."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import Load, median, press
from headgate.stack.child import Child

READY_WITHIN_S = 180.0
QUIET_S, QUIET_WITHIN_S = 0.3, 30.0
QUIET_CPU = 0.15
"""Core seconds per second below which what runs beside a server counts as idle."""


@dataclass(slots=True)
class Contender:
    """A server, or a way to run one, as it appears in the table.

    Attributes:
        child: its process; several contenders may share one.
        url, path: where requests go. bodies: file of a JSON list of them. labels: the right answers, in the same order.
        label: the class in an answer. prepare: called before each of its turns.
        beside: commands' words by which processes that work beside the answering ones are known (a log's mover).
        helpers: further processes, by number, whose work is done for it (PostgreSQL).
        reason: why it is not measured; None = it is.
    """

    name: str
    child: Child | None
    url: str = ""
    path: str = "/invocations"
    bodies: Path = Path()
    labels: Sequence[Any] = ()
    label: Callable[[Any], Any] = lambda answer: answer["predictions"][0]
    prepare: Callable[[], None] = lambda: None
    beside: Sequence[str] = ()
    helpers: Sequence[int] = ()
    reason: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run.

    Attributes:
        cpu_us: CPU of the answering processes per answered request. beside_us: of those that work beside them,
            until they were done.
    """

    load: Load
    cpu_us: float
    beside_us: float


def start(children: Iterable[Child], within_s: float = READY_WITHIN_S) -> dict[str, str]:
    """Start servers together; returns those that did not get ready, with their last words."""
    waiting = list(children)
    for child in waiting:
        child.start()
    failed: dict[str, str] = {}
    deadline = time.monotonic() + within_s
    while waiting:
        for child in list(waiting):
            if child.is_ready():
                waiting.remove(child)
            elif not child.alive or time.monotonic() > deadline:
                waiting.remove(child)
                failed[child.name] = f"did not start: {child.last_words(3)[-300:]}"
        time.sleep(0.1)
    return failed


def end(children: Iterable[Child]) -> None:
    """End servers, also what they started."""
    running = list(children)
    for child in running:
        child.ask_to_stop()
    for child in running:
        child.finish(10)


def answers_rightly(contender: Contender) -> str | None:
    """Why its answers can't be trusted; None = the first rows get the model's own labels."""
    bodies = json.loads(contender.bodies.read_text())
    with httpx.Client(base_url=contender.url, timeout=30, trust_env=False) as client:
        for body, wanted in list(zip(bodies, contender.labels, strict=True))[:20]:
            try:
                got = client.post(contender.path, json=body)
                label = contender.label(got.json())
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as err:
                return f"no usable answer: {err!r:.200}"
            if got.status_code != httpx.codes.OK or label != wanted:
                return f"wrong answer: {got.status_code} {got.text:.200}, not {wanted}"
    return None


def measure(
    contenders: Sequence[Contender], connections: Sequence[int], rounds: int, seconds: float
) -> dict[tuple[str, int], list[Measured]]:
    """Every contender in turn, round after round."""
    found: dict[tuple[str, int], list[Measured]] = {}
    for _ in range(rounds):
        for contender in contenders:
            if contender.reason is None:
                contender.prepare()
                for count in connections:
                    found.setdefault((contender.name, count), []).append(one(contender, count, seconds))
    return found


def one(contender: Contender, connections: int, seconds: float, rate: float | None = None) -> Measured:
    """One run, until what works beside the server is done too."""
    spent: list[float] = []

    def note() -> None:
        spent.extend((_answering(contender), _beside(contender)))

    load = press(
        contender.url,
        contender.bodies,
        connections,
        seconds,
        rate=rate,
        path=contender.path,
        on_begin=note,
    )
    own = _answering(contender) - spent[0]
    _wait_until_quiet(contender)
    beside = _beside(contender) - spent[1]
    each = 1e6 / load.answered if load.answered else float("nan")
    return Measured(load, own * each, beside * each)


def middle(runs: Sequence[Measured]) -> Measured:
    """Medians of several runs, each figure by itself but the latencies, which are those of the middle run."""

    def of(values: Iterable[float]) -> float:
        return sorted(values)[len(runs) // 2]

    return Measured(
        median([run.load for run in runs]), of(run.cpu_us for run in runs), of(run.beside_us for run in runs)
    )


def _wait_until_quiet(contender: Contender) -> None:
    if not contender.beside and not contender.helpers:
        return
    deadline = time.monotonic() + QUIET_WITHIN_S
    spent = _beside(contender)
    while time.monotonic() < deadline:
        time.sleep(QUIET_S)
        now = _beside(contender)
        if now - spent < QUIET_CPU * QUIET_S:
            return
        spent = now


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _works_beside(contender: Contender, process: psutil.Process) -> bool:
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return any(word in words for word in contender.beside)


def _answering(contender: Contender) -> float:
    """Core seconds so far of the processes that answer."""
    tree = _tree(contender.child.pid or 0) if contender.child else []
    return sum(_cpu(process) for process in tree if not _works_beside(contender, process))


def _beside(contender: Contender) -> float:
    """Core seconds so far of the processes that work beside them."""
    tree = _tree(contender.child.pid or 0) if contender.child else []
    own = sum(_cpu(process) for process in tree if _works_beside(contender, process))
    return own + sum(_cpu(process) for pid in contender.helpers for process in _tree(pid))

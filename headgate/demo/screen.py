"""What the demo shows while it runs: a headline for every event, and one line that lives below them."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from headgate.core.rollout import Rollout
from headgate.demo.facts import Event

_STYLES = {"start": "cyan", "step": "blue", "approval": "magenta", "end": "green", "bad": "red"}
_PLAIN_EVERY_S = 10.0
_PLAIN_WIDTH = 120


class Screen:
    """The terminal. Where there is none, headlines and now and then the line are printed."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if not self.console.is_terminal:
            self.console.width = _PLAIN_WIDTH
        self.started = time.monotonic()
        self._line = "starting"
        self._plain_at = 0.0
        self._spinner = Spinner("dots", text=Text(self._line))
        self._live = Live(self._spinner, console=self.console, transient=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.still()

    def still(self) -> None:
        """End the living line."""
        if self._live.is_started:
            self._live.stop()

    def say(self, words: str, style: str = "") -> None:
        """A headline."""
        self.console.print(Text.assemble((f"{self._clock()}  ", "dim"), (words, style)), soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        """A table or the like."""
        self.console.print(what)

    def part(self, name: str, state: str, seconds: float) -> None:
        """The stack's progress."""
        if state in ("ready", "ended", "restarted") or seconds > 3:
            self.say(f"{name} {state}" + (f" after {seconds:.1f} s" if seconds else ""), "dim")
        self.line(f"{state} {name}")

    def event(self, rollout_id: str, event: Event) -> None:
        """A decision."""
        self.say(f"{rollout_id}  {event.label:<10} {event.reason}", _STYLES[event.kind])

    def follow(self, rollout: Rollout, tally: Mapping[str, Any]) -> None:
        """Where a rollout stands, and what the clients see."""
        phase = rollout.phase.value + (f" ({rollout.pause_reason.value})" if rollout.pause_reason else "")
        ruling = rollout.last_ruling
        decided = f"{ruling.decision.value}: {ruling.reason}" if ruling else ""
        sent, failed = tally.get("requests", 0), tally.get("client_errors", 0)
        self.line(
            f"{rollout.id}  {phase} at {rollout.weight_percent:g} %  |  {sent} requests, {failed} failed  |  {decided}"
        )

    def line(self, words: str) -> None:
        """Change the living line."""
        self._line = words
        if self._live.is_started:
            width = max(20, self.console.width - 14)
            self._spinner.update(text=Text(f"{self._clock()}  {words[:width]}", style="dim"))
        elif time.monotonic() - self._plain_at > _PLAIN_EVERY_S:
            self._plain_at = time.monotonic()
            self.console.print(f"{self._clock()}  … {words}", soft_wrap=True)

    def _clock(self) -> str:
        spent = time.monotonic() - self.started
        return f"{int(spent // 60)}:{spent % 60:04.1f}"

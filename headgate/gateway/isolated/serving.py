"""One version's own process: loads it, and answers the gateway's calls on a few threads."""

import faulthandler
import fcntl
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import numpy as np

from headgate.gateway.execute import ArmFailedError
from headgate.gateway.isolated.frames import (
    Channel,
    Frame,
    Kind,
    pack_answer,
    pack_failure,
    pack_refusal,
    unpack_body,
)
from headgate.gateway.lanes import Lane
from headgate.gateway.models import load_model
from headgate.gateway.options import ServingOptions
from headgate.gateway.protocol import RefusedError
from headgate.gateway.served import Served

_FIRST_FOR_OOM = "500"
"""Of -1000 to 1000: when the machine's memory is out, the kernel ends this process before the gateway."""


def serve(number: int, lifeline: int) -> None:
    """Serve until the gateway is gone.

    Args:
        number: file number of our end of the socket pair. lifeline: of a pipe whose other end the gateway holds.
    """
    faulthandler.enable()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _end_with_the_gateway(lifeline)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_FOR_OOM)
    # Every process was forked with the same state.
    np.random.seed()
    channel = Channel(socket.socket(fileno=number))
    order = channel.receive()
    if order is not None:
        _serve(channel, json.loads(order.content))


def _serve(channel: Channel, order: dict[str, object]) -> None:
    try:
        options = ServingOptions(**order["options"])  # type: ignore[arg-type]
        served = load_model(str(order["name"]), str(order["version"]), Path(str(order["folder"])), options)
    except BaseException as err:  # noqa: BLE001  whatever a model's own code raises is told to the gateway
        channel.send(Kind.UNLOADABLE, 0, f"{type(err).__name__}: {err}"[:2000].encode(errors="replace"))
        return
    channel.send(Kind.READY, 0)
    lane = Lane("call", int(str(order["threads"])))
    while (frame := channel.receive()) is not None:
        lane.submit(lambda frame=frame: _answer(channel, served, frame))  # type: ignore[misc]


def _answer(channel: Channel, served: Served, call: Frame) -> None:
    try:
        kind, content = Kind.ANSWER, pack_answer(served.call(unpack_body(call.content)))
    except RefusedError as err:
        kind, content = Kind.REFUSED, pack_refusal(err)
    except ArmFailedError as err:
        kind, content = Kind.FAILED, pack_failure(err)
    except BaseException as err:  # noqa: BLE001  a model's `exit()` is one call's failure
        kind, content = Kind.FAILED, pack_failure(ArmFailedError("model", f"{type(err).__name__}: {err}"))
    with suppress(OSError):
        channel.send(kind, call.number, content)


def _end_with_the_gateway(lifeline: int) -> None:
    """Have the kernel end this process when the gateway's end of a pipe is closed, even if a model holds the GIL."""
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)

"""`python -m headgate.gateway.isolated SOCKET`: forks a process for each version, with all imported that it needs.

So the next process of a version that ended answers after the time its files take to load, and what was imported is in
memory once. It has one thread, and runs no code of a model.
"""

import gc
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from headgate.gateway.isolated.serving import serve


def main(argv: list[str]) -> None:
    """Fork on request until the gateway is gone."""
    gateway = socket.socket(fileno=int(argv[0]))
    news, bell = os.pipe()
    os.set_blocking(bell, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(bell, warn_on_full_buffer=False)
    # What is here now is shared with every child; a collection would copy it.
    gc.freeze()
    listening = gateway.fileno()
    while True:
        ready, _, _ = select.select([listening, news], [], [])
        if news in ready:
            os.read(news, 4096)
        _tell_ends(gateway)
        if listening in ready:
            asked, handed, _, _ = socket.recv_fds(gateway, 1, 2)
            if not asked:
                return
            child = os.fork()
            if child == 0:
                gateway.close()
                _become(*handed)
            for number in handed:
                os.close(number)
            _tell(gateway, born=child)


def _tell_ends(gateway: socket.socket) -> None:
    with suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            _tell(gateway, ended=child, code=os.waitstatus_to_exitcode(status))


def _tell(gateway: socket.socket, **facts: int) -> None:
    with suppress(OSError):
        gateway.sendall(json.dumps(facts).encode() + b"\n")


def _become(channel: int, lifeline: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A group of its own, so that what the model starts ends with it.
        os.setsid()
        serve(channel, lifeline)
    finally:
        # Threads of a model that hangs must not hold up the end.
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])

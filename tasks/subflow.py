"""Runs a story as a subflow, or without one when Prefect's server is away."""

import logging
from collections.abc import Sequence

import httpx
from prefect import Flow, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from headgate.effects import deliver
from headgate.errors import StoreUnavailableError
from headgate.fleet import Move
from tasks.commit import write
from tasks.parts import parts

logger = logging.getLogger(__name__)


def tell(story: Flow[[Move], None], move: Move) -> None:
    """Carry a move out as a subflow of its own.

    A heartbeat thread would add a second to the end of each; the sweep's own heartbeat covers them.
    """
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            story(move)
    except StoreUnavailableError:
        raise
    except Exception as err:  # One story that breaks must not end the sweep over the others (MN-02).
        # A client that can't reach the server at all says so by a bare RuntimeError.
        away = isinstance(err, httpx.HTTPError | PrefectHTTPStatusError)
        away = away or (isinstance(err, RuntimeError) and isinstance(err.__cause__, httpx.HTTPError))
        logger.warning(
            "%s is carried out without its page in Prefect: %s", move.title, err, exc_info=not away
        )
        write(move)
        deliver(parts(), move.before.id)


@task(cache_policy=NO_CACHE)
def carry_out(moves: Sequence[Move]) -> int:
    """Carry many moves out without a page each; returns how many were written."""
    done = sum(write(move) for move in moves)
    if moves:
        deliver(parts())
    return done

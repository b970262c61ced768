"""Tells the user's platform what a check asks for and headgate does not own (docs/hooks.md)."""

from collections.abc import Mapping

import httpx
from pydantic import SecretStr

from headgate.errors import ConfigError, HookUnavailableError

TIMEOUT_S = 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def send_hook(url: SecretStr | None, event: Mapping[str, object]) -> bool:
    """Deliver one event by POST, as JSON; an answer of 2xx means that it was taken.

    An event may arrive twice; its `id` stays the same, so that a receiver can drop repeats.

    Args:
        url: `HEADGATE_HOOK_URL`; None = nobody listens, the event stands in the audit trail only.
        event: what to say.

    Returns:
        True when it was delivered, False when nobody listens.

    Raises:
        HookUnavailableError: no answer within 5 s, or another one than 2xx.
        ConfigError: the URL is none.
    """
    if url is None:
        return False
    address = url.get_secret_value()
    try:
        target = httpx.URL(address)
    except httpx.InvalidURL as err:
        raise ConfigError(
            "HEADGATE_HOOK_URL", "<hidden>", f"be an http:// or https:// address: {err}"
        ) from err
    # Its path and query may hold a token; they are never shown.
    shown = f"{target.scheme}://{target.host}"
    try:
        answer = httpx.post(
            target,
            json=dict(event),
            timeout=TIMEOUT_S,
            headers={"x-headgate-event": str(event["event"])},
            # A proxy of the environment is not meant for a receiver on this machine.
            trust_env=target.host not in _LOOPBACK,
        )
    except httpx.HTTPError as err:
        raise HookUnavailableError(shown, type(err).__name__) from err
    if not answer.is_success:
        raise HookUnavailableError(shown, f"it answered {answer.status_code}")
    return True

"""Where a version runs: in this process, in processes of its own, or behind a URL."""

from collections.abc import Callable
from pathlib import Path

from headgate.gateway.isolated.model import IsolatedModel
from headgate.gateway.models import load_model
from headgate.gateway.options import ServingOptions
from headgate.gateway.served import Served
from headgate.gateway.upstream import UpstreamModel


def _ignore(model: str, version: str) -> None:
    """Nobody listens."""


def load_version(
    model: str,
    version: str,
    folder: Path | None,
    options: ServingOptions,
    on_end: Callable[[str, str], object] = _ignore,
) -> Served:
    """A version that is able to answer.

    Args:
        folder: its files; None with an upstream, which has them.
        on_end: called with (model, version) whenever a process of a version ends and was not meant to.
    """
    if options.upstream is not None or folder is None:
        return UpstreamModel(model, version, options)
    if options.isolation == "process":
        return IsolatedModel(model, version, folder, options, lambda _: on_end(model, version))
    return load_model(model, version, folder, options)

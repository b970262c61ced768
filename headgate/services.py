"""Settings become connected parts: the one place where a process says what it stands on."""

import logging
from functools import cached_property
from types import TracebackType
from typing import Self

from headgate.artifacts import PendingArtifacts, open_artifacts
from headgate.core.announcement import announce
from headgate.core.rollout import RegistryTarget, RegistryView
from headgate.errors import HeadgateError
from headgate.registry import Registry
from headgate.settings import Settings, load_settings
from headgate.store.news import default_grace_s
from headgate.store.store import Store

logger = logging.getLogger(__name__)

SPLIT_CHANNEL = "headgate_split"
"""What PostgreSQL carries to every gateway: cutoffs, and what the registry shows after a write."""


class Services:
    """The parts of one process, each connected when first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def store(self) -> Store:
        """PostgreSQL.

        Raises:
            ConfigError: no address is known.
        """
        settings = self.settings
        bucket_s = max(1, round(settings.bucket_s))
        # A challenger that takes as long as it may is logged that much later.
        grace_s = max(default_grace_s(bucket_s), settings.predict_timeout_s + settings.flush_s)
        return Store(settings.required("database_url"), bucket_s=bucket_s, grace_s=grace_s)

    @cached_property
    def registry(self) -> Registry:
        """MLflow.

        Raises:
            ConfigError: no address is known.
        """
        return Registry(self.settings.required("mlflow_uri"), timeout_s=self.settings.registry_timeout_s)

    @cached_property
    def artifacts(self) -> PendingArtifacts:
        """The folder or bucket of reports, evidence and archived days.

        Raises:
            ConfigError: its address can't be used.
        """
        return open_artifacts(self.settings)

    def write_registry(
        self, model: str, target: RegistryTarget, *, expected: RegistryView | None
    ) -> RegistryView:
        """`Registry.sync`, and tell every gateway what was written, so that they follow within milliseconds.

        Raises:
            ConflictError, NotFoundError, BadRequestError, RegistryUnavailableError: as `Registry.sync`.
        """
        # Told before it is read back: that takes MLflow longer than everything after it. They look by themselves then.
        return self.registry.sync(
            model, target, expected=expected, on_written=lambda written: self.tell_gateways(model, written)
        )

    def tell_gateways(self, model: str, written: RegistryView) -> None:
        """Send what the registry shows now to every gateway; with PostgreSQL away they see it by themselves, a second later."""
        try:
            self.store.notify(SPLIT_CHANNEL, announce(model, written))
        except HeadgateError as err:
            logger.warning(
                "the gateways were not told of %s's new split, they look every second: %s", model, err
            )

    def close(self) -> None:
        """Give every connection back; asking again connects again."""
        for name in ("store", "registry", "artifacts"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(settings: Settings | None = None) -> Services:
    """The parts as this process's settings name them; nothing is opened yet.

    Raises:
        ConfigError: a setting is misspelt or can't be used.
    """
    return Services(settings if settings is not None else load_settings())

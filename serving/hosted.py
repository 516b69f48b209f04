"""The models that a replica holds: loaded at first need, at most so many in memory, each following its alias."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from serving.config import ServeConfig
from serving.engine import LoadedModel
from serving.registry import RegisteredModel
from serving.store.served import ServedTable

logger = logging.getLogger(__name__)


class Registry(Protocol):
    """What is needed of the model registry."""

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The version that an alias names now."""
        ...

    def fetch(self, model: RegisteredModel) -> Path:
        """The folder of a version."""
        ...


Load = Callable[[RegisteredModel, Path], LoadedModel]


class HostedModels:
    """One server's models in one replica; used by one thread."""

    def __init__(self, config: ServeConfig, registry: Registry, load: Load, served: ServedTable) -> None:
        self._config = config
        self._registry = registry
        self._load = load
        self._served = served
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()  # the one used last stands last
        self._versions: dict[str, str] = {}
        self._next_look = 0.0

    @property
    def versions(self) -> dict[str, str]:
        """The version of each model that was taken, whether it is in memory now or not."""
        return dict(self._versions)

    def take_all(self) -> None:
        """Loads each model once, so that every ingress learns what it can make; the main one stays in memory.

        Raises:
            RegistryError: an alias names nothing that can be loaded.
        """
        for name in reversed(self._config.model_names):
            self._take(self._registry.resolve(name, self._config.model_alias))

    def get(self, name: str) -> LoadedModel:
        """The model of that name, loaded now when it is not in memory.

        Raises:
            RegistryError: it cannot be loaded any more.
        """
        if name not in self._loaded:
            self._take(self._registry.resolve(name, self._config.model_alias))
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def follow_aliases(self) -> None:
        """Loads what an alias names now, when that is another version; keeps the old model when it cannot."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._config.alias_poll_s
        for name in self._config.model_names:
            try:
                wanted = self._registry.resolve(name, self._config.model_alias)
                if wanted.version != self._versions.get(name):
                    self._take(wanted)
            except Exception:  # whatever is wrong with the new version, the old one still serves
                logger.exception("cannot follow models:/%s@%s", name, self._config.model_alias)

    def _take(self, wanted: RegisteredModel) -> None:
        started = time.monotonic()
        model = self._load(wanted, self._registry.fetch(wanted))
        logger.info("loaded %s version %s in %.1f s", wanted.name, wanted.version, time.monotonic() - started)
        self._loaded[wanted.name] = model
        self._loaded.move_to_end(wanted.name)
        self._versions[wanted.name] = wanted.version
        while len(self._loaded) > self._config.max_loaded:
            gone, _ = self._loaded.popitem(last=False)
            logger.info("%s leaves the memory: %d models at once are kept", gone, self._config.max_loaded)
        self._served.publish(wanted.name, version=wanted.version, facts=model.facts.model_dump(mode="json"))

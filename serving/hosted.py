"""The models that a replica holds: loaded at first need, at most so many in memory, each following its alias."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from model.errors import RegistryAwayError, SkyloomError, StageError
from serving.config import ServeConfig
from serving.engine import LoadedModel
from serving.limits import ModelFacts
from serving.loader import read_facts
from serving.registry import RegisteredModel
from serving.store.served import ServedTable
from serving.store.tables import ModelVersion
from serving.store.trouble import passes

logger = logging.getLogger(__name__)


class Registry(Protocol):
    """What is needed of the model registry."""

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The version that an alias names now."""
        ...

    def versions(self, name: str) -> Sequence[RegisteredModel]:
        """Every version of a model; none where there is only a folder."""
        ...

    def fetch(self, model: RegisteredModel, part: str = "") -> Path:
        """The folder of a version, or one file of it."""
        ...

    def clear(self, model: RegisteredModel) -> None:
        """Deletes what `fetch` had to copy."""
        ...


SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0
Load = Callable[[RegisteredModel, Path], LoadedModel]


class _Key(NamedTuple):
    name: str
    version: str


class _Pause(NamedTuple):
    """How long a version that could not be loaded is left alone, longer each time: to fetch one may take minutes."""

    until_s: float = 0.0
    next_s: float = SHORTEST_PAUSE_S

    @property
    def lasts(self) -> bool:
        return time.monotonic() < self.until_s

    def after(self) -> "_Pause":
        return _Pause(time.monotonic() + self.next_s, min(2 * self.next_s, LONGEST_PAUSE_S))


_NO_PAUSE = _Pause()


class HostedModels:
    """One server's models in one replica; used by one thread, but for `look`."""

    def __init__(self, config: ServeConfig, registry: Registry, load: Load, served: ServedTable) -> None:
        self._config = config
        self._registry = registry
        self._load = load
        self._served = served
        self._loaded: OrderedDict[_Key, LoadedModel] = OrderedDict()  # the one used last stands last
        self._followed: dict[str, str] = {}
        self._listed: dict[str, Sequence[RegisteredModel]] = {}
        self._facts: dict[tuple[str, str], ModelFacts] = {}
        self._wanted: dict[str, RegisteredModel] = {}
        self._refused: dict[_Key, _Pause] = {}

    @property
    def versions(self) -> dict[str, str]:
        """The version of each model that its alias named last, whether it is in memory now or not."""
        return dict(self._followed)

    def take_all(self) -> None:
        """Loads each model once, so that every ingress learns what it can make; the main one stays in memory.

        Raises:
            RegistryError: an alias names nothing that can be loaded.
        """
        for name in reversed(self._config.model_names):
            self._follow(self._registry.resolve(name, self._config.model_alias))
        self.look()

    def get(self, model_id: str) -> LoadedModel:
        """The model of that id (`NAME`: as its alias says; or `NAME@VERSION`), loaded now when it is not in memory.

        Raises:
            RegistryError: it cannot be loaded any more.
        """
        named = self._config.named(model_id)
        if named is None:
            raise StageError(f"the model {model_id!r} is not served any more; name one that GET /v1/models lists")
        name, version = named
        key = _Key(name, version or self._followed.get(name, ""))
        if key not in self._loaded:
            if version:
                self._take(key, self._loaded_from(self._version(name, version)))
            else:
                key = self._follow(self._registry.resolve(name, self._config.model_alias))
        self._loaded.move_to_end(key)
        return self._loaded[key]

    def look(self) -> None:
        """Asks the registry what its aliases name now, and tells every ingress which versions there are.

        Safe beside the thread that makes videos, which the registry's answers would hold up.
        """
        for name in self._config.model_names:
            with self._lenient(name):
                self._wanted[name] = self._registry.resolve(name, self._config.model_alias)
                self._list(name)

    def follow_aliases(self) -> None:
        """Loads what an alias named at the last look, when that is another version; keeps the old one if it cannot."""
        for name in list(self._wanted):
            wanted = self._wanted.pop(name)
            key = _Key(name, wanted.version)
            if wanted.version == self._followed.get(name) or self._refused.get(key, _NO_PAUSE).lasts:
                continue
            with self._lenient(name), self._remembered(key):
                self._follow(wanted)

    @contextmanager
    def _remembered(self, key: _Key) -> Iterator[None]:
        """A version that is at fault itself is left alone for a while; a trouble that passes is none of its own."""
        try:
            yield
        except Exception as error:
            if not passes(error):
                self._refused[key] = self._refused.get(key, _NO_PAUSE).after()
            raise
        self._refused.pop(key, None)

    @contextmanager
    def _lenient(self, name: str) -> Iterator[None]:
        """Whatever is wrong with a new version, the old one still serves."""
        try:
            yield
        except Exception:
            logger.exception("cannot follow models:/%s@%s", name, self._config.model_alias)

    def _follow(self, wanted: RegisteredModel) -> _Key:
        """Loads the version that an alias names in place of the one that it named before, and tells every ingress."""
        model, key = self._loaded_from(wanted), _Key(wanted.name, wanted.version)
        # first: when it cannot be said now, all of this is tried again
        self._served.publish(wanted.name, version=wanted.version, facts=model.facts.model_dump(mode="json"))
        self._loaded.pop(_Key(wanted.name, self._followed.get(wanted.name, "")), None)
        self._take(key, model)
        self._followed[wanted.name] = wanted.version
        return key

    def _version(self, name: str, version: str) -> RegisteredModel:
        found = next((model for model in self._registry.versions(name) if model.version == version), None)
        if found is None:
            raise StageError(f"{name} has no version {version} any more; name one that GET /v1/models lists")
        return found

    def _loaded_from(self, wanted: RegisteredModel) -> LoadedModel:
        started = time.monotonic()
        try:
            model = self._load(wanted, self._registry.fetch(wanted))
        finally:
            self._registry.clear(wanted)
        logger.info("loaded %s version %s in %.1f s", wanted.name, wanted.version, time.monotonic() - started)
        return model

    def _take(self, key: _Key, model: LoadedModel) -> None:
        self._loaded[key] = model
        self._loaded.move_to_end(key)
        while len(self._loaded) > self._config.max_loaded:
            gone, _ = self._loaded.popitem(last=False)
            logger.info("%s version %s leaves the memory: %d models at once are kept", *gone, self._config.max_loaded)

    def _list(self, name: str) -> None:
        """Tells every ingress the versions of a model, when they are others than at the last look."""
        found = self._registry.versions(name)
        if found != self._listed.get(name):
            self._served.publish_versions(name, list(self._described(found)))
            self._listed[name] = found  # not when the store was away meanwhile: then the next look tries again

    def _facts_of(self, model: RegisteredModel) -> ModelFacts:
        """What a version can make: read once, since a version stays what it is."""
        key = (model.id, model.weights_digest)
        if key not in self._facts:
            try:
                self._facts[key] = read_facts(model, self._registry.fetch)
            finally:
                self._registry.clear(model)
        return self._facts[key]

    def _described(self, found: Sequence[RegisteredModel]) -> Iterator[ModelVersion]:
        """The rows of those that can be served."""
        for model in found:
            try:
                facts = self._facts_of(model)
            except RegistryAwayError:
                raise
            except SkyloomError as error:
                logger.warning("%s is not listed: %s", model.id, error)
                continue
            yield ModelVersion(
                id=model.id,
                name=model.name,
                aliases=list(model.aliases),
                created_s=model.created_s,
                facts=facts.model_copy(update={"name": model.id}).model_dump(mode="json"),
            )

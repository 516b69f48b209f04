"""The model registry as the server sees it: an alias names a version, a version has a folder of weights."""

import re
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.parse import urlsplit

import mlflow.artifacts
import requests
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from model.errors import RegistryAwayError, RegistryError

READY = "READY"  # MLflow's word for a version whose registration is complete
_THIS_MACHINE = ("", "localhost")
_FINAL = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "PERMISSION_DENIED")
_REFUSED = re.compile(r"\b40[0-9] Client Error|\berror code 40[0-9]\b|No such (file|artifact)")


class RegisteredModel(NamedTuple):
    """One version of a registered model; `aliases` and when it was made (Unix seconds) are known in a listing."""

    name: str
    version: str
    weights_digest: str
    dataset_id: str
    aliases: tuple[str, ...] = ()
    created_s: float = 0.0

    @property
    def id(self) -> str:
        """What a request names this very version by."""
        return f"{self.name}@{self.version}"


class ModelRegistry:
    """A reader of one MLflow store; never touches MLflow's global settings.

    Weights are read from the store itself and from below the addresses in `artifact_stores`, nowhere else: a version's
    address is whatever its registrant wrote, and the server would call there.
    """

    def __init__(self, tracking_uri: str, artifact_stores: Sequence[str] = ()) -> None:
        self._tracking_uri, self._artifact_stores = tracking_uri, artifact_stores
        self._copies = TemporaryDirectory(prefix="skyloom-models-")
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The version that the alias names now.

        Raises:
            RegistryError: no such model or alias.
            RegistryAwayError: it does not answer.
        """
        try:
            found = self._client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            raise _kind_of(error)(
                f"{self._tracking_uri} has no model version models:/{name}@{alias} ({error.message}); "
                "train and register one with `skyloom run`, or set the alias on a version in MLflow"
            ) from error
        return _registered(found)

    def versions(self, name: str) -> Sequence[RegisteredModel]:
        """Every version of a model whose registration is complete, the oldest first.

        Raises:
            RegistryError: no such model.
            RegistryAwayError: it does not answer.
        """
        try:
            aliases = self._client.get_registered_model(name).aliases
            found = self._client.search_model_versions(f"name = '{name}'")
        except MlflowException as error:
            raise _kind_of(error)(
                f"{self._tracking_uri} cannot list the versions of {name} ({error.message}); is MLflow at work?"
            ) from error
        ready = [version for version in found if version.status == READY]
        return [
            _registered(version)._replace(
                aliases=tuple(sorted(alias for alias, named in aliases.items() if str(named) == str(version.version))),
                created_s=version.creation_timestamp / 1000,
            )
            for version in sorted(ready, key=lambda version: int(version.version))
        ]

    def fetch(self, model: RegisteredModel, part: str = "") -> Path:
        """The local folder of a version, or one file of it; a copy of what lies elsewhere, until `clear`.

        Raises:
            RegistryError: the version or its artifacts are gone, or lie at an address outside of the store.
            RegistryAwayError: the registry or the store does not answer.
        """
        address = self._address(model)
        whole = f"{address}/{part}" if part else address
        copy = None if _is_here(address) else str(self._copy(model))
        try:
            return Path(
                mlflow.artifacts.download_artifacts(artifact_uri=whole, tracking_uri=self._tracking_uri, dst_path=copy)
            )
        except (MlflowException, OSError) as error:
            raise _unreadable(model, error) from error

    def clear(self, model: RegisteredModel) -> None:
        """Deletes the copy of a version, if there is one: what was loaded is in memory."""
        shutil.rmtree(self._copy(model), ignore_errors=True)

    def _copy(self, model: RegisteredModel) -> Path:
        # each thread's own: one looks at the files of a version while another loads it
        folder = Path(self._copies.name) / str(threading.get_ident()) / model.id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _address(self, model: RegisteredModel) -> str:
        try:
            # `models:/` addresses would be looked up in the global store, whatever the arguments say
            address = self._client.get_model_version_download_uri(model.name, model.version)
        except MlflowException as error:
            raise _unreadable(model, error) from error
        if not is_in_store(address, self._tracking_uri, self._artifact_stores):
            raise _unreadable(model, f"they are at {address}, outside of the store; no such address is fetched")
        return address


def is_in_store(address: str, tracking_uri: str, artifact_stores: Sequence[str] = ()) -> bool:
    """Whether artifacts at an address come from a store's own folder or server, or from below one that is allowed."""
    if any(address.startswith(f"{store.rstrip('/')}/") for store in artifact_stores):
        return ".." not in address
    try:
        scheme, host, *_ = urlsplit(address)
    except ValueError:
        return False
    if scheme == "mlflow-artifacts":  # without a host it is asked of the tracking server
        return host in ("", urlsplit(tracking_uri).netloc)
    return _is_here(address)


def _is_here(address: str) -> bool:
    scheme, host, *_ = urlsplit(address)
    return scheme in ("", "file") and host in _THIS_MACHINE


def _kind_of(error: object) -> type[RegistryError]:
    """What is missing or forbidden stays so; a store that does not answer, or not as it should, may do so later.

    MLflow passes on what its own HTTP requests met as text.
    """
    if isinstance(error, MlflowException):
        is_final = error.error_code in _FINAL or _REFUSED.search(str(error)) is not None
    elif isinstance(error, requests.HTTPError) and error.response is not None:
        is_final = error.response.status_code < 500
    else:
        is_final = not isinstance(error, requests.RequestException)
    return RegistryError if is_final else RegistryAwayError


def _registered(found: ModelVersion) -> RegisteredModel:
    tags = found.tags
    return RegisteredModel(found.name, str(found.version), tags.get("weights_digest", ""), tags.get("dataset_id", ""))


def _unreadable(model: RegisteredModel, why: object) -> RegistryError:
    return _kind_of(why)(
        f"the artifacts of {model.name} version {model.version} cannot be read ({why}); register it again"
    )

"""The model registry as the server sees it: an alias names a version, a version has a folder of weights."""

from pathlib import Path
from typing import NamedTuple

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from model.errors import RegistryError


class RegisteredModel(NamedTuple):
    """One version of a registered model."""

    name: str
    version: str
    weights_digest: str
    dataset_id: str


class ModelRegistry:
    """A reader of one MLflow store; never touches MLflow's global settings."""

    def __init__(self, tracking_uri: str) -> None:
        self._tracking_uri = tracking_uri
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def resolve(self, name: str, alias: str) -> RegisteredModel:
        """The version that the alias names now.

        Raises:
            RegistryError: no such model or alias.
        """
        try:
            found = self._client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            raise RegistryError(
                f"{self._tracking_uri} has no model version models:/{name}@{alias} ({error.message}); "
                "train and register one with `skyloom run`, or set the alias on a version in MLflow"
            ) from error
        return _registered(found)

    def fetch(self, model: RegisteredModel) -> Path:
        """The local folder of a version; artifacts that are local already are not copied.

        Raises:
            RegistryError: the version or its artifacts are gone.
        """
        try:
            # `models:/` addresses would be looked up in the global store, whatever the arguments say
            address = self._client.get_model_version_download_uri(model.name, model.version)
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=address, tracking_uri=self._tracking_uri))
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"the artifacts of {model.name} version {model.version} cannot be read ({error}); register it again"
            ) from error


def _registered(found: ModelVersion) -> RegisteredModel:
    tags = found.tags
    return RegisteredModel(found.name, str(found.version), tags.get("weights_digest", ""), tags.get("dataset_id", ""))

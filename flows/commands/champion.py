"""Which model a command uses: the champion of a run, or the starter weights where nothing was trained yet."""

from pathlib import Path

from data.workspace import Workspace
from flows.home import workspace
from flows.recipes import remembered
from model.errors import RegistryError
from model.pipeline import FACTS_FILE
from model.weights import STARTER
from serving.engine import LoadedModel
from serving.loader import load_model
from serving.registry import ModelRegistry, RegisteredModel
from training.config import RegistryConfig
from training.registry import register_starter


def load_champion(folder: Path | None) -> LoadedModel:
    """The champion of the run in `folder`, else of the demo, else the starter.

    Raises:
        RegistryError: the run has no champion, or there is neither a run nor a starter.
    """
    place = workspace(folder, "demo")
    if falls_back(folder):
        return load_model(RegisteredModel("starter", "1", "", ""), STARTER)
    require_registry(place)
    registry = ModelRegistry(place.tracking_uri)
    found = registry.resolve(model_name(place), "champion")
    return load_model(found, registry.fetch(found))


def served_place(folder: Path | None) -> Workspace:
    """The run in `folder`, else the demo, else a workspace in which the starter stands as champion.

    Raises:
        RegistryError: there is neither a run nor a starter.
    """
    if falls_back(folder):
        place = workspace(None, "starter-served")
        register_starter(model_name(place), STARTER, place)
        return place
    place = workspace(folder, "demo")
    require_registry(place)
    return place


def falls_back(folder: Path | None) -> bool:
    """Whether the starter is taken, since no run was named and none lies where the demo would."""
    return folder is None and not has_registry(workspace(None, "demo")) and (STARTER / FACTS_FILE).is_file()


def model_name(place: Workspace) -> str:
    """The name under which the run registered its model."""
    recipe = remembered(place)
    return recipe.registry.name if recipe else RegistryConfig().name


def has_registry(place: Workspace) -> bool:
    """Whether a run registered anything there; MLflow itself would make an empty database on looking."""
    return (place.mlflow / "mlflow.db").exists()


def require_registry(place: Workspace) -> None:
    """Passes where a run registered a model.

    Raises:
        RegistryError: none did.
    """
    if not has_registry(place):
        raise RegistryError(f"{place.root} holds no model yet; run `skyloom demo`, or name a --workspace that does")

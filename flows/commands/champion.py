"""Which model a command uses: the champion of a run, or the starter weights where nothing was trained yet."""

from pathlib import Path

from data.workspace import Workspace
from flows.commands.served_run import falls_back, has_registry, served_run
from flows.home import workspace
from flows.recipes import remembered
from model.errors import RegistryError
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
    place = served_run(folder)
    if falls_back(folder):
        register_starter(model_name(place), STARTER, place)
    require_registry(place)
    return place


def model_name(place: Workspace) -> str:
    """The name under which the run registered its model."""
    recipe = remembered(place)
    return recipe.registry.name if recipe else RegistryConfig().name


def require_registry(place: Workspace) -> None:
    """Passes where a run registered a model.

    Raises:
        RegistryError: none did.
    """
    if not has_registry(place):
        raise RegistryError(f"{place.root} holds no model yet; run `skyloom demo`, or name a --workspace that does")

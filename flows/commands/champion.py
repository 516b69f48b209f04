"""Where the model of a run is registered: what `generate` and `serve` need to find it."""

from data.workspace import Workspace
from flows.recipes import remembered
from model.errors import RegistryError
from training.config import RegistryConfig


def model_name(place: Workspace) -> str:
    """The name under which the run registered its model."""
    recipe = remembered(place)
    return recipe.registry.name if recipe else RegistryConfig().name


def require_registry(place: Workspace) -> None:
    """Looks before MLflow does: it would make an empty database where there is none."""
    if not (place.mlflow / "mlflow.db").exists():
        raise RegistryError(f"{place.root} holds no model yet; run `skyloom demo`, or name a --workspace that does")

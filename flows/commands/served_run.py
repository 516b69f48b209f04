"""Which run the commands of a server mean: the one that is named, the demo, or the starter where there is neither."""

from pathlib import Path

from data.workspace import Workspace
from flows.home import workspace
from model.weights import has_starter

STARTER_RUN = "starter-served"


def served_run(folder: Path | None) -> Workspace:
    """The run in `folder`, else the demo, else the workspace in which the starter stands as champion."""
    return workspace(None, STARTER_RUN) if falls_back(folder) else workspace(folder, "demo")


def falls_back(folder: Path | None) -> bool:
    """Whether the starter is taken, since no run was named and none lies where the demo would."""
    return folder is None and not has_registry(workspace(None, "demo")) and has_starter()


def has_registry(place: Workspace) -> bool:
    """Whether a run registered anything there; MLflow itself would make an empty database on looking."""
    return (place.mlflow / "mlflow.db").exists()

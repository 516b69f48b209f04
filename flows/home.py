"""Where runs keep what they make: `artifacts/` in the current folder, or the folder that SKYLOOM_HOME names."""

import os
from pathlib import Path

from data.workspace import Workspace


def home() -> Path:
    """The absolute folder above all workspaces and above the services' own files."""
    return Path(os.environ.get("SKYLOOM_HOME", "artifacts")).absolute()


def services_folder() -> Path:
    """The folder of what `skyloom up` and the local Prefect server write: databases, logs."""
    return home() / "services"


def workspace(folder: Path | None, name: str) -> Workspace:
    """The workspace at `folder`, or the one called `name` under `home()`; its root is absolute."""
    return Workspace((folder or home() / name).absolute())

"""Names that are imported only when they are used."""

import importlib
from typing import Any


def resolve(path: str) -> Any:
    """The object that `module:name` stands for; its module is imported now, not when this one was.

    torch, Ray, MLflow and Prefect take seconds to import. Tables of such paths keep `skyloom --help`, kept stages and
    Prefect's workers quick, and keep every import statement at the top of its file.
    """
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)

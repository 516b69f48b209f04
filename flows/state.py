"""What `skyloom up` started, remembered in one file, so that `down` ends exactly these processes."""

from pathlib import Path

import psutil
from pydantic import Field

from data.atomic import replacing
from flows.home import home
from model.config import Config


class Service(Config):
    """One process that `skyloom up` started."""

    name: str
    pid: int
    created_at: float = Field(description="when the process began: a pid that was given away again is not ours")
    url: str | None = None
    log: str


class Services(Config):
    """All of them, in the order in which they were started."""

    services: tuple[Service, ...] = ()


def state_file() -> Path:
    """Where the running services are written down."""
    return home() / "up.json"


def read_services() -> list[Service]:
    """The services that were started and still run."""
    path = state_file()
    if not path.exists():
        return []
    return [found for found in Services.model_validate_json(path.read_text()).services if process_of(found)]


def write_services(services: list[Service]) -> None:
    """Writes the services down in one step; an empty list removes the file."""
    path = state_file()
    if not services:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as partial:
        partial.write_text(Services(services=tuple(services)).model_dump_json(indent=1) + "\n")


def process_of(service: Service) -> psutil.Process | None:
    """The service's process while it runs, else None."""
    try:
        process = psutil.Process(service.pid)
        same = abs(process.create_time() - service.created_at) < 1
    except psutil.NoSuchProcess:
        return None
    return process if same and process.status() != psutil.STATUS_ZOMBIE else None


def running_url(name: str) -> str | None:
    """The address of a running service of `skyloom up`, or None."""
    return next((service.url for service in read_services() if service.name == name), None)

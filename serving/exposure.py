"""Whether a service that the server leans on stands open to other machines; beside such a one it does not start."""

import os
from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

import httpx

from model.errors import ConfigError
from serving.api.browsers import is_loopback

PROBE_TIMEOUT_S = 30.0  # a busy server that is open must not pass for one that is away
FIRST_MLFLOW_LOGIN = ("admin", "password1234")
"""What MLflow's basic-auth came with for years; version 3.17 refuses to start with it."""


def check_services(tracking_uri: str, ray_address: str, environment: Mapping[str, str] = os.environ) -> None:
    """Passes when MLflow, Prefect and Ray are each on loopback, or ask who calls.

    The first two are tried out. Of Ray the environment must say that it is in token mode: without a word, a cluster
    whose nodes hold no token leaves it off.

    Raises:
        ConfigError: one is open; the message says which, where, and what to set.
    """
    open_ones = [
        *_open_mlflow(tracking_uri),
        *_open_prefect(environment.get("PREFECT_API_URL", "")),
        *_open_ray(ray_address, environment.get("RAY_AUTH_MODE", "")),
    ]
    if open_ones:
        raise ConfigError(f"{'; '.join(open_ones)}. Where nobody else can reach it, start with --insecure_dev")


def _open_mlflow(url: str) -> Iterator[str]:
    if not url.startswith(("http://", "https://")) or not _is_beyond_loopback(url):
        return
    asked = f"{url.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    if _answers(asked):
        yield (
            f"MLflow at {_host(url)} asks nobody for a password: start it with --app-name basic-auth and "
            "MLFLOW_AUTH_ADMIN_PASSWORD, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD here"
        )
    elif _answers(asked, FIRST_MLFLOW_LOGIN):
        yield f"MLflow at {_host(url)} has the password of its first start, password1234: change that of admin"


def _open_prefect(url: str) -> Iterator[str]:
    if url and _is_beyond_loopback(url) and _answers(f"{url.rstrip('/')}/admin/version"):
        yield (
            f"Prefect at {_host(url)} asks nobody for a password: set PREFECT_SERVER_API_AUTH_STRING=USER:PASSWORD "
            "where it runs and PREFECT_API_AUTH_STRING here"
        )


def _open_ray(address: str, auth_mode: str) -> Iterator[str]:
    if address not in ("", "auto", "local") and _is_beyond_loopback(address) and auth_mode.lower() != "token":
        yield (
            f"Ray at {_host(address)} runs code for whoever reaches it unless it asks for a token: set "
            "RAY_AUTH_MODE=token and one RAY_AUTH_TOKEN on each of its nodes and here"
        )


def _is_beyond_loopback(address: str) -> bool:
    return not is_loopback(_split(address).hostname)


def _host(address: str) -> str:
    """The host and port alone: an address may hold a password."""
    return _split(address).netloc.rpartition("@")[2]


def _split(address: str) -> SplitResult:
    return urlsplit(address if "://" in address else f"//{address}")


def _answers(url: str, login: tuple[str, str] | None = None) -> bool:
    """Whether it gives what was asked for; what cannot be reached is open to nobody as far as can be seen."""
    try:
        bare = httpx.URL(url).copy_with(username=None, password=None)
        return httpx.get(bare, auth=login, timeout=PROBE_TIMEOUT_S, trust_env=False).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False

"""The server as a Ray Serve application, and how the command line starts and stops it."""

import logging
import os
import socket
import time
from dataclasses import dataclass

import httpx
import ray
from ray import serve
from ray.serve import Application

from data.cluster import ensure_ray
from model.errors import CapacityError, ConfigError, StageError
from serving.api.browsers import is_loopback
from serving.bounded_http import PROXY_ENVIRONMENT
from serving.config import ServeConfig
from serving.exposure import check_services
from serving.ingress import Ingress
from serving.registry import ModelRegistry
from serving.replica import ModelReplica
from serving.scaling import replicas_of
from serving.store.database import Database
from serving.store.keys import KeyTable

logger = logging.getLogger(__name__)

APPLICATION = "skyloom"
INGRESS_OPTIONS = {
    "num_cpus": 0,
    "runtime_env": {"env_vars": {"RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0"}},
}
"""The ingress waits for the database and the disk; a whole core for it would starve the model on small machines.
Serve's own event loop handles its requests: to pass each to another thread and back costs 2 to 5 ms, more than most of
them take, and no handler makes the loop wait."""
CONTROLLER_ENVIRONMENT = PROXY_ENVIRONMENT | {"RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5"}
"""Of Serve's controller, and the proxy inherits it. Ten looks a second at its deployments take 2.7 % of a core, two 1;
where cores are few, the model feels it."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    config: ServeConfig
    owns_ray: bool
    started_in_s: float

    @property
    def base_url(self) -> str:
        """What the SDK takes as `base_url`."""
        return f"{self.config.url}/v1"


def build(config: ServeConfig) -> Application:
    """The application: `serve run serving.app:build database_url=… storage=… tracking_uri=…` takes it, and `start`.

    Raises:
        ConfigError: MLflow, Prefect or Ray stands open to other machines.
    """
    if not config.insecure_dev:
        joined = ray.get_runtime_context().gcs_address if ray.is_initialized() else ""
        check_services(config.tracking_uri, os.environ.get("RAY_ADDRESS") or joined)
    resources = {"num_cpus": config.num_cpus, "num_gpus": config.num_gpus}
    model = ModelReplica.options(ray_actor_options=resources, **replicas_of(config))
    api = Ingress.options(ray_actor_options=INGRESS_OPTIONS)
    return api.bind(config, model.bind(config))


def start(config: ServeConfig) -> Server:
    """A server whose model is loaded and whose API answers; starts a local Ray when none is connected.

    Raises:
        RegistryError: the alias names no model version.
        CapacityError: the port is taken, or the server is not ready in time.
        StageError: a replica could not be made, the model not being loadable for example.
        ConfigError: other machines would reach it without an API key, or reach MLflow, Prefect or Ray.
    """
    began = time.monotonic()
    application = build(config)
    for name in config.model_names:
        ModelRegistry(config.tracking_uri).resolve(name, config.model_alias)
    _check_keys(config)
    _check_port(config)
    config.storage.mkdir(parents=True, exist_ok=True)
    owns_ray = ensure_ray(include_dashboard=False)
    server = Server(config, owns_ray, 0.0)
    try:
        serve.start(
            http_options={"host": config.host, "port": config.port},
            controller_options={"runtime_env": {"env_vars": CONTROLLER_ENVIRONMENT}},
        )
        _deploy(application)
        _await_ready(config)
    except BaseException:
        stop(server)
        raise
    return Server(config, owns_ray, time.monotonic() - began)


def stop(server: Server) -> None:
    """Ends the server; a job under way goes back to the table for the next one."""
    serve.shutdown()
    if server.owns_ray:
        ray.shutdown()


def _deploy(application: Application) -> None:
    try:
        serve.run(application, name=APPLICATION, route_prefix="/")
    except RuntimeError as error:  # what Serve raises when a replica cannot be made
        found = serve.status().applications.get(APPLICATION)
        deployments = found.deployments.values() if found else ()
        # a message is a whole traceback, and its last line the error itself
        reasons = [deployment.message.strip().splitlines()[-1] for deployment in deployments if deployment.message]
        raise StageError(f"the server did not start: {'; '.join(reasons) or error}") from error


def _check_keys(config: ServeConfig) -> None:
    if config.keys == "off" or is_loopback(config.host) or KeyTable(Database(config.database_url)).any_made():
        return
    raise ConfigError(
        f"{config.host} can be reached from other machines and the server has no API key yet; "
        "make one with `skyloom keys create NAME`, or let anybody in with --keys off"
    )


def _check_port(config: ServeConfig) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            raise CapacityError(
                f"cannot listen on {config.host}:{config.port} ({error.strerror}); "
                "stop what uses it or choose another port"
            ) from error


def _await_ready(config: ServeConfig) -> None:
    deadline = time.monotonic() + config.start_timeout_s
    last = "no answer"
    while time.monotonic() < deadline:
        try:
            reply = httpx.get(f"{config.url}/healthz", timeout=5, trust_env=False)
        except httpx.TransportError as error:
            last = repr(error)
        else:
            if reply.status_code == 200:
                return
            last = reply.text
        time.sleep(0.1)
    raise CapacityError(
        f"{config.url} was not ready within {config.start_timeout_s:g} s: {last}; see the logs of Ray Serve"
    )

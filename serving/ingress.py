"""The ingress deployment: the API, without weights; imports neither torch nor MLflow, so it starts fast."""

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.replica_port import listen_on_node_address


# a stream of events and a body that is waited for hold a place each, and cost little
@serve.deployment(name="api", max_ongoing_requests=1024, graceful_shutdown_timeout_s=10)
@serve.ingress()
class Ingress:
    """Serves the API. Jobs reach the model through the table; the handle only ties the two deployments together."""

    def __init__(self, config: ServeConfig, model: DeploymentHandle) -> None:
        listen_on_node_address()
        self._config = config
        self.model = model

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._config)

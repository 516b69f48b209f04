"""The model deployment: a replica that loads the registry's champion and pulls jobs from the table."""

import logging
import os
import socket

import torch
from ray import serve

from model.errors import CapacityError
from serving.config import ServeConfig
from serving.loader import load_model
from serving.registry import ModelRegistry
from serving.replica_port import listen_on_node_address
from serving.scaling import PENDING
from serving.store.database import Database
from serving.store.jobs import JobTable
from serving.tracing import send_spans
from serving.worker import Worker

NICENESS = 10
"""On a machine whose cores make the videos too, a request is answered first: it takes half as long as at 0."""


@serve.deployment(
    name="model",
    max_ongoing_requests=8,
    max_constructor_retry_count=2,
    health_check_period_s=5,
    graceful_shutdown_timeout_s=15,
)
class ModelReplica:
    """Holds one model; ready once it is loaded."""

    def __init__(self, config: ServeConfig) -> None:
        listen_on_node_address()
        logging.getLogger("serving").setLevel(logging.INFO)
        send_spans(config, "model")
        torch.set_num_threads(max(1, int(config.num_cpus)))
        if not config.num_gpus:
            os.nice(NICENESS)
        # a request more would hold up the thread that makes videos for minutes, while MLflow is away
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        self._jobs = JobTable(Database(config.database_url), max_attempts=config.max_attempts)
        self._worker = Worker(
            config,
            name=f"{socket.gethostname()}:{os.getpid()}",
            jobs=self._jobs,
            registry=ModelRegistry(config.tracking_uri, config.artifact_stores),
            load=load_model,
        )
        self._worker.start()

    def check_health(self) -> None:
        """Serve calls this now and then, and replaces a replica that raises.

        Raises:
            CapacityError: a thread of the worker died.
        """
        if not self._worker.is_alive:
            raise CapacityError("a thread of the model's worker died; see its log above for the reason")

    def record_autoscaling_stats(self) -> dict[str, int]:
        """What Serve asks for now and then, to decide how many replicas there should be."""
        return {PENDING: self._jobs.num_pending()}

    def version(self) -> str:
        """The model version in memory."""
        return self._worker.version

    def __del__(self) -> None:
        if hasattr(self, "_worker"):
            self._worker.stop()

"""A long queue gets more replicas, and they end when it is short again."""

import time
from types import SimpleNamespace

import pytest
import ray
from ray import serve

from flows.services import free_port
from serving.app import APPLICATION, start, stop
from serving.config import ServeConfig
from serving.scaling import PENDING, QueuePolicy, replicas_of
from serving.store.database import Database
from serving.store.jobs import JobTable, NewJob


@pytest.mark.parametrize(("counts", "wanted"), [([0, 0], 0), ([1], 1), ([8], 1), ([9, 8], 2), ([33], 5), ([], 3)])
def test_one_replica_for_every_few_jobs(counts: list[int], wanted: int) -> None:
    reports = {PENDING: dict(enumerate(counts))} if counts else {}
    context = SimpleNamespace(aggregated_metrics=reports, target_num_replicas=3)
    assert QueuePolicy(jobs_per_replica=8)(context) == (wanted, {})


def test_a_number_of_replicas_stays_one_where_no_more_are_allowed(config: ServeConfig) -> None:
    assert replicas_of(config) == {"num_replicas": 1}
    fixed = config.model_copy(update={"num_model_replicas": 3, "max_model_replicas": 3})
    assert replicas_of(fixed) == {"num_replicas": 3}
    scaling = replicas_of(config.model_copy(update={"max_model_replicas": 4}))["autoscaling_config"]
    assert (scaling.min_replicas, scaling.max_replicas) == (1, 4)


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_a_long_queue_gets_more_replicas(store, tmp_path) -> None:
    store.register("skyloom")
    config = ServeConfig.at(
        tmp_path, tracking_uri=store.uri, port=free_port(), num_cpus=0.5, frame_check="off",
        max_model_replicas=2, jobs_per_replica=4, upscale_after_s=1, downscale_after_s=1,
    )  # fmt: skip
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    server = start(config)
    try:
        jobs = JobTable(Database(config.database_url))
        assert num_running() == 1
        slow = {
            "seed": 1, "num_inference_steps": 100, "guidance_scale": 1.0, "negative_prompt": "", "fps": 8.0,
            "operation": {"kind": "generate"}, "inputs": {},
        }  # fmt: skip
        for _ in range(60):
            jobs.create(NewJob(model="skyloom", prompt="a red ball", seconds="2", size="64x64", settings=slow))
        await_running(2, timeout_s=90)
        for job in jobs.list(limit=100).jobs:
            jobs.delete(job.id)
        await_running(1, timeout_s=90)
    finally:
        stop(server)
        ray.shutdown()


def num_running() -> int:
    """The model's replicas that run."""
    deployments = serve.status().applications[APPLICATION].deployments
    return deployments["model"].replica_states.get("RUNNING", 0)


def await_running(number: int, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while num_running() != number:
        assert time.monotonic() < deadline, f"{num_running()} replicas run, not {number}"
        time.sleep(0.5)

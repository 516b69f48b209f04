"""One way to have Ray: join the cluster that the environment names, or start a quiet one on loopback."""

import logging
import os
from pathlib import Path

import ray

logger = logging.getLogger(__name__)

_ROOMS = ("model", "data", "training", "serving", "flows")
_LOOPBACK = "127.0.0.1"


def ensure_ray(
    *,
    num_cpus: int | None = None,
    include_dashboard: bool = True,
    object_store_bytes: int = 512 * 1024**2,
    log_to_driver: bool = False,
) -> bool:
    """True when this call started or joined Ray, False when it was up already.

    With `RAY_ADDRESS` set it joins that cluster and ships the rooms there; else it starts one on loopback.
    Ray Train's cleaner asks the dashboard for its state, so keep the dashboard on for training.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray lowers its workers' priority by 15: the servers beside them would then slow training down.
    os.environ.setdefault("RAY_worker_niceness", "0")
    if os.environ.get("RAY_ADDRESS"):
        logger.info("joining Ray at %s", os.environ["RAY_ADDRESS"])
        ray.init(runtime_env=_shipped_rooms(), logging_level=logging.WARNING, log_to_driver=log_to_driver)
        return True
    # nobody reads its own metrics here, and six reports a minute take half a percent of a core
    os.environ.setdefault("RAY_metrics_report_interval_ms", "60000")
    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=include_dashboard,
        dashboard_host=_LOOPBACK,
        _node_ip_address=_LOOPBACK,
        object_store_memory=object_store_bytes,
        logging_level=logging.WARNING,
        log_to_driver=log_to_driver,
    )
    logger.info("started Ray with %s CPUs", ray.cluster_resources().get("CPU", 0))
    return True


def _shipped_rooms() -> dict[str, list[str]]:
    """A runtime environment that carries our packages, and only these, to machines without a checkout."""
    root = Path(__file__).resolve().parent.parent
    return {"py_modules": [str(root / room) for room in _ROOMS if (root / room).is_dir()]}

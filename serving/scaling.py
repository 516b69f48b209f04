"""How many model replicas a queue needs: one for every few jobs that wait or are being made.

Replicas pull jobs, so Ray Serve sees no requests to count; each replica reports what lies in the job table instead.
"""

import math
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from serving.config import ServeConfig

PENDING = "pending_jobs"
LOOK_BACK_S = 15.0  # more than the ten seconds between two reports


class QueuePolicy:
    """Serve's policy; the bounds and delays of the configuration are applied to what it asks for."""

    def __init__(self, jobs_per_replica: int) -> None:
        self._jobs_per_replica = jobs_per_replica

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """How many replicas there should be, and no state; as many as now while none has reported."""
        counts = (context.aggregated_metrics or {}).get(PENDING, {}).values()
        if not counts:
            return context.target_num_replicas, {}
        return math.ceil(max(counts) / self._jobs_per_replica), {}


def replicas_of(config: ServeConfig) -> dict[str, Any]:
    """The options of the model's deployment that say how many replicas it has."""
    if config.max_model_replicas <= config.num_model_replicas:
        return {"num_replicas": config.num_model_replicas}
    policy = AutoscalingPolicy(policy_function=QueuePolicy, policy_kwargs={"jobs_per_replica": config.jobs_per_replica})
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=config.num_model_replicas,
            max_replicas=config.max_model_replicas,
            look_back_period_s=LOOK_BACK_S,
            upscale_delay_s=config.upscale_after_s,
            downscale_delay_s=config.downscale_after_s,
            policy=policy,
        )
    }

"""The transformer's training as Ray Train runs it: a rank's steps, and rank 0's records of them."""

import time
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from torch import Tensor

from data.workspace import Workspace
from training.config import TransformerTraining
from training.progress import StepLog
from training.tracking import log_metrics, open_client
from training.transformer_steps import Trainer

METRICS_EVERY = 10
STEP_LOG = "transformer.jsonl"


def run_worker(settings: dict[str, Any]) -> None:
    """Train one rank to the end of the schedule; rank 0 writes checkpoints, the step log and the MLflow metrics."""
    config = TransformerTraining.model_validate(settings["config"])
    workspace = Workspace(Path(settings["workspace"]))
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    together = {"distribute": prepare_model} if world_size > 1 else {}
    trainer = Trainer(config, workspace, get_device(), rank=rank, world_size=world_size, **together)
    recorder = None
    if rank == 0:
        recorder = Recorder(workspace, settings["run_id"], trainer.first_step, config.schedule.batch_size)
    for step in range(trainer.first_step, config.schedule.num_steps):
        figures = trainer.step(step)
        if recorder:
            recorder.record(step, figures)
            if trainer.is_due(step):
                recorder.flush()
                trainer.save(step)
    ray.train.report({"steps": config.schedule.num_steps})
    if recorder:
        recorder.close()


class Recorder:
    """Rank 0's records: a line per step, metrics in MLflow every few steps.

    A step is written when the next one is under way: reading its loss at once would let a GPU wait for Python.
    """

    def __init__(self, workspace: Workspace, run_id: str, first_step: int, batch_size: int) -> None:
        self._log = StepLog(workspace.logs / STEP_LOG, first_step)
        self._client, self._run_id, self._batch_size = open_client(workspace), run_id, batch_size
        self._pending: tuple[int, dict[str, Tensor], torch.cuda.Event | None] | None = None
        self._written_s = time.perf_counter()

    def record(self, step: int, figures: dict[str, Tensor]) -> None:
        """Keep the figures of a step, and write those of the one before."""
        self.flush()
        if all(value.device.type == "cpu" for value in figures.values()):
            self._pending = step, figures, None
            return
        copies = {
            name: torch.empty((), pin_memory=True).copy_(value, non_blocking=True) for name, value in figures.items()
        }
        copied = torch.cuda.Event()
        copied.record()
        self._pending = step, copies, copied

    def flush(self) -> None:
        """Write the figures that are still kept, once the device has them."""
        if self._pending is None:
            return
        step, tensors, copied = self._pending
        if copied:
            copied.synchronize()  # and not for the step that is under way
        figures = {name: value.item() for name, value in tensors.items()}
        now_s = time.perf_counter()
        figures["samples_per_s"] = self._batch_size / (now_s - self._written_s)
        self._pending, self._written_s = None, now_s
        self._log.write(step, **figures)
        if step % METRICS_EVERY == 0:
            log_metrics(self._client, self._run_id, step, time.time(), figures)

    def close(self) -> None:
        """Write what is kept and close the step log."""
        self.flush()
        self._log.close()

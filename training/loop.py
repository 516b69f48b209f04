"""The loop of the trainings that run in this process: rates, steps, checkpoints, and on from the newest of them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from data.workspace import Workspace
from training.checkpoint import (
    load_newest,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizers,
    save_checkpoint,
)
from training.config import Schedule
from training.optim import set_rates
from training.progress import StepProgress


class Learner(NamedTuple):
    """A network with its optimisers, and the name under which its checkpoints and log lie."""

    name: str
    network: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]


@contextmanager
def drawn_ahead(draw: Callable[[int], Tensor]) -> Iterator[Callable[[int], Tensor]]:
    """`draw` for steps that come in order: a thread draws the next batch while a GPU works on this one."""
    coming: dict[int, Future[Tensor]] = {}
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:

        def take(step: int) -> Tensor:
            batch = coming.pop(step).result() if step in coming else draw(step)
            coming[step + 1] = pool.submit(draw, step + 1)
            return batch

        yield take


def run_schedule(
    learner: Learner,
    schedule: Schedule,
    workspace: Workspace,
    facts: dict[str, Any],
    take_step: Callable[[int], dict[str, float]],
) -> None:
    """Take every step of the schedule, from the newest checkpoint of these facts (settings, data) on.

    `take_step` does one update and returns the figures to log; it may depend on nothing but the step's number.
    """
    name, network, optimizers = learner
    root = workspace.checkpoints(name)
    saved = load_newest(root, facts)
    if saved:
        restore_module("network", network, saved.tensors)
        restore_optimizers(optimizers, saved.tensors)
    first = saved.step if saved else 0
    with StepProgress(name, workspace.logs / f"{name}.jsonl", schedule.num_steps, first) as progress:
        for step in range(first, schedule.num_steps):
            set_rates(optimizers, schedule.rate(step))
            progress.step(step, **take_step(step))
            done = step + 1
            if done % schedule.checkpoint_every == 0 and done < schedule.num_steps:
                tensors = module_tensors("network", network) | optimizer_tensors(optimizers)
                save_checkpoint(root, done, tensors, facts)

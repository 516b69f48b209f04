"""Trains the diffusion transformer under Ray Train and assembles the pipeline from its averaged weights."""

import os
import threading
from pathlib import Path

import ray
import ray.train
from ray.train.torch import TorchTrainer

from data.cluster import ensure_ray
from data.loader import other_sizes
from data.manifest import Dataset
from data.stage import StageResult
from data.workspace import Workspace
from model.errors import CheckpointError, ConfigError
from model.facts import PipelineFacts
from model.pipeline import SkyloomPipeline
from model.shapes import VideoShape
from training.autoencoder import load_autoencoder
from training.checkpoint import load_newest, module_weights, restore_module
from training.clips import kept_rows
from training.config import TransformerTraining
from training.ema import mixed
from training.progress import progress_bar, read_steps
from training.tracking import open_client, open_run
from training.transformer_steps import make_transformer, track_name
from training.transformer_worker import STEP_LOG, run_worker
from training.warm_start import start_digest

POLL_S = 1.0
ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184"
"""Keep freed memory and ask for huge pages: page faults cost a CPU step a fifth of its time (docs/decisions/0003)."""


def train_transformer(config: TransformerTraining, workspace: Workspace) -> StageResult:
    """Train to the end of the schedule, from the newest checkpoint on, and write the pipeline folder."""
    client = open_client(workspace)
    dataset = Dataset.open(workspace.latents)
    params = {"transformer": config.model_dump(mode="json"), "dataset_id": dataset.card.dataset_id}
    run_id = open_run(client, workspace, workspace.transformer, config.recipe, params)
    ensure_ray(num_cpus=max(os.cpu_count() or 1, config.num_workers * config.cpus_per_worker))
    has_gpus = ray.cluster_resources().get("GPU", 0) >= config.num_workers
    if config.device == "cuda" and not has_gpus:  # Ray would wait for one for ever
        raise ConfigError(
            f"device='cuda' for {config.num_workers} ranks, but Ray has no GPU for each; use 'auto' or 'cpu'"
        )
    trainer = TorchTrainer(
        run_worker,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "workspace": str(workspace.root.resolve()),
            "run_id": run_id,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=has_gpus and config.device != "cpu",
            resources_per_worker={"CPU": config.cpus_per_worker},
        ),
        run_config=ray.train.RunConfig(
            name="transformer",
            storage_path=str((workspace.transformer / "ray").resolve()),
            worker_runtime_env={"env_vars": worker_environment(config)},
        ),
    )
    with ProgressFollower("transformer", workspace.logs / STEP_LOG, config.schedule.num_steps):
        trainer.fit()
    digest = assemble_pipeline(config, workspace)
    steps = read_steps(workspace.logs / STEP_LOG)
    rates = sorted(record["samples_per_s"] for record in steps)
    return StageResult(
        digest=digest,
        outputs=[workspace.pipeline / "skyloom.json", *workspace.pipeline.rglob("*.safetensors")],
        took={"clips": dataset.card.num_clips, "steps": config.schedule.num_steps}
        | start_digest(config.start_from, "transformer"),
        gave={"final_loss": round(sum(r["loss"] for r in steps[-20:]) / len(steps[-20:]), 4),
              "samples_per_s": round(rates[len(rates) // 2], 1), "mlflow_run": run_id},
    )  # fmt: skip


def worker_environment(config: TransformerTraining) -> dict[str, str]:
    """Variables of a rank's process, which must be set before it loads torch."""
    environment = {"GLIBC_TUNABLES": ALLOCATOR, "OMP_NUM_THREADS": str(config.cpus_per_worker)}
    if config.num_workers * config.cpus_per_worker <= (os.cpu_count() or 1):
        # A step is a thousand short operations: waking a sleeping thread for each costs some 8 % of it. Where ranks
        # share cores, spinning would take them from each other.
        environment["OMP_WAIT_POLICY"] = "active"
    return environment


def assemble_pipeline(config: TransformerTraining, workspace: Workspace) -> str:
    """Write autoencoder and averaged transformer as one diffusers folder; returns its weights digest.

    Raises:
        CheckpointError: training has not finished.
    """
    saved = load_newest(workspace.checkpoints("transformer"))
    if saved is None or saved.step < config.schedule.num_steps:
        raise CheckpointError(f"training in {workspace.root} has not finished; run `skyloom train` to its end")
    autoencoder = load_autoencoder(workspace.autoencoder)
    dataset = Dataset.open(workspace.latents)
    network = make_transformer(config, autoencoder.latent_channels, dataset.card.facts["prompt_dim"])
    if config.served_width:
        tracks = {width: module_weights(track_name(width), saved.tensors) for width in config.ema_widths}
        network.load_state_dict(mixed(tracks, config.served_width))
    else:
        restore_module("ema", network, saved.tensors)
    pipeline = SkyloomPipeline(autoencoder, network.eval())
    buckets = sorted({member.bucket for member in dataset.members})
    pipeline.facts = PipelineFacts(
        fps=kept_rows(workspace)[0]["fps"],
        trained_buckets=buckets,
        also_trained=also_trained(config, buckets, other_sizes(dataset, workspace.latents, autoencoder.compression)),
        text_encoder=config.text_encoder,
        prompt_expander=config.prompt_expander,
        dataset_id=dataset.card.dataset_id,
        recipe=config.recipe,
        sigma_shift=config.sigma_shift,
        default_num_steps=config.num_sampling_steps,
        default_guidance_scale=config.guidance_scale,
        default_guidance_low=config.guidance_low,
        default_moves_patches=config.moves_patches,
        default_polish=config.polish,
    )
    return pipeline.save(workspace.pipeline)


def also_trained(config: TransformerTraining, own: list[str], scaled: list[str]) -> list[str]:
    """The buckets, by name, that clips of its `own` were trained on in besides: other sizes, half as many frames."""
    sizes = scaled if config.scaled_fraction else []
    shapes = [VideoShape.parse(name) for name in [*own, *sizes]] if config.short_fraction else []
    return sorted({*sizes, *(shape._replace(num_frames=shape.num_frames // 2).bucket for shape in shapes)})


class ProgressFollower:
    """A progress bar in this process over the step log that a worker elsewhere writes."""

    def __init__(self, name: str, path: Path, num_steps: int) -> None:
        self._path, self._num_steps = path, num_steps
        self._bar, self._stop = progress_bar(), threading.Event()
        self._task = self._bar.add_task(name, total=num_steps, figures="starting Ray Train")
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._bar.start()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._show()
        self._bar.stop()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self._show()

    def _show(self) -> None:
        records = read_steps(self._path)
        if records:
            last = records[-1]
            figures = f"loss {last['loss']:.4f}  {last['samples_per_s']:.0f} samples/s"
            self._bar.update(self._task, completed=int(last["step"]) + 1, figures=figures)

"""Video shards to latents, captions to prompt states: a Ray actor takes a whole shard and writes its twin."""

import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import ray
import torch
from ray.util import ActorPool
from torch import Tensor

from data.atomic import remove_partials
from data.cluster import ensure_ray
from data.config import EncodeConfig
from data.encode_plan import ShardJob, plan_jobs, proven_members
from data.latents import IMAGE_VIEW, LATENT_GROUP, PROMPT_GROUP, pack, read_header, scale_view
from data.manifest import Dataset, Member, MemberReader, publish, retract
from data.stage import StageResult
from data.tars import write_tar
from data.video import open_video, read_frames
from data.workspace import Workspace
from model.autoencoder import VideoAutoencoder
from model.errors import ConfigError, ShardError, StageError
from model.pixels import covering, to_video
from model.precision import autocast
from model.shapes import VideoShape
from model.text import load_text_encoder
from model.weights import weights_digest

logger = logging.getLogger(__name__)

MAX_LOST = 3
"""How often the worker of a shard may be lost before the stage gives up."""
_STEP_PX = 16
"""Sides of other sizes are multiples of it: a patch of 2 x 2 cells."""


def encode_dataset(config: EncodeConfig, workspace: Workspace) -> StageResult:
    """Latent and prompt shards of the whole dataset; a shard that proves itself made from it stays as it is.

    Raises:
        ShardError: there is no finished dataset of clips, or its bytes do not match its manifest.
        CheckpointError: there is no autoencoder.
        ConfigError: more actors are asked for than the cluster has CPUs.
    """
    began_s = time.monotonic()
    dataset = Dataset.open(workspace.shards)
    makers = {
        "autoencoder": weights_digest(config.autoencoder or workspace.autoencoder),
        "text_encoder": load_text_encoder(config.text_encoder).digest,
    }
    workspace.latents.mkdir(parents=True, exist_ok=True)
    remove_partials(workspace.latents)
    jobs = plan_jobs(dataset, makers, images=config.images, scales=config.scales)
    pending = [job for job in jobs if proven_members(workspace.latents, job) is None]
    if pending:
        retract(workspace.latents)
        _run_jobs(config, workspace, pending)
    members, facts = _collect(workspace.latents, jobs)
    card = publish(workspace.latents, members, parents={"dataset": dataset.card.dataset_id, **makers}, facts=facts)
    seconds = time.monotonic() - began_s
    num_encoded = sum(len(job.sources) for job in pending if job.group == LATENT_GROUP)
    return StageResult(
        digest=card.dataset_id,
        outputs=[workspace.latents],
        took={"clips": dataset.card.num_clips, "dataset_id": dataset.card.dataset_id},
        gave={
            "dataset_id": card.dataset_id,
            "clips": card.num_clips,
            "clips_encoded": num_encoded,
            "shards": len(card.shards),
            "shards_written": len(pending),
            "bytes": sum((workspace.latents / name).stat().st_size for name in card.shards),
            "seconds": round(seconds, 3),
            "clips_per_s": round(num_encoded / seconds, 2),
            **facts,
        },
    )


def _collect(folder: Path, jobs: Sequence[ShardJob]) -> tuple[list[Member], dict[str, int]]:
    members: list[Member] = []
    for job in jobs:
        found = proven_members(folder, job)
        if found is None:
            raise StageError(
                f"{folder / job.name} does not hold what was just encoded; let one run at a time write there"
            )
        members += found
    with MemberReader(folder) as reader:
        shapes = [read_header(reader.read(member))["shapes"] for member in members if member.group == PROMPT_GROUP]
        latent = read_header(reader.read(members[0]))["shapes"]["mean"]
    longest = max(shape[0] for by_name in shapes for shape in by_name.values())
    return members, {
        "latent_channels": latent[0],
        "max_prompt_tokens": longest,
        "prompt_dim": shapes[0]["dense"][1],
    }


def _run_jobs(config: EncodeConfig, workspace: Workspace, jobs: Sequence[ShardJob]) -> None:
    for number, name in enumerate(_encoded(config, workspace, jobs), start=1):
        logger.info("encoded shard %d of %d: %s", number, len(jobs), name)


def _encoded(config: EncodeConfig, workspace: Workspace, jobs: Sequence[ShardJob]) -> Iterator[str]:
    if not config.num_actors:
        yield from map(ShardEncoder(config, workspace).encode, jobs)
        return
    ensure_ray()
    num_cpus = int(ray.cluster_resources().get("CPU", 0))
    if config.num_actors > num_cpus:
        raise ConfigError(f"num_actors={config.num_actors} does not fit {num_cpus} CPUs; lower it or add nodes")
    # An actor has another working directory, so it gets whole paths.
    whole = config.model_copy(update={"autoencoder": (config.autoencoder or workspace.autoencoder).resolve()})
    # A shard is whole or absent, so an actor that is lost can simply be made again and asked once more.
    remote = ray.remote(ShardEncoder).options(
        num_cpus=1, num_gpus=config.num_gpus, max_restarts=MAX_LOST, max_task_retries=MAX_LOST
    )
    actors: list[Any] = [
        remote.remote(whole, Workspace(workspace.root.resolve())) for _ in range(min(config.num_actors, len(jobs)))
    ]
    pool: Any = ActorPool(actors)  # Ray's own annotation says that it gives lists
    try:
        yield from pool.map_unordered(lambda actor, job: actor.encode.remote(job), list(jobs))
    finally:
        for actor in actors:
            ray.kill(actor)


class ShardEncoder:
    """Makes one shard at a time from the members of another, as a Ray actor or in place."""

    def __init__(self, config: EncodeConfig, workspace: Workspace) -> None:
        torch.set_num_threads(config.num_threads)
        self._config = config
        self._workspace = workspace
        self._autoencoder = VideoAutoencoder.from_pretrained(
            config.autoencoder or workspace.autoencoder, use_safetensors=True
        )
        torch.nn.Module.to(self._autoencoder.eval(), config.device)
        self._text_encoder = load_text_encoder(config.text_encoder)

    @torch.inference_mode()
    def encode(self, job: ShardJob) -> str:
        """The name of the shard that was written; the same job gives the same bytes.

        Raises:
            ShardError: a source does not match its digest or its bucket.
        """
        rounding = autocast(self._config.device)
        with MemberReader(self._workspace.shards) as reader, rounding:
            members = self._latents(job, reader) if job.group == LATENT_GROUP else self._prompts(job, reader)
        write_tar(self._workspace.latents / job.name, zip(job.member_names, members, strict=True))
        return job.name

    def _latents(self, job: ShardJob, reader: MemberReader) -> list[bytes]:
        packed: list[bytes] = []
        # Batches are cut from the shard alone: a shard made after a kill has the bytes of one made before.
        for start in range(0, len(job.sources), self._config.batch_size):
            sources = job.sources[start : start + self._config.batch_size]
            clips = [decode_clip(reader.read(source), job.bucket) for source in sources]
            tensors = self._encoded(job, [frames for frames, _ in clips])
            for index, (source, (_, fps)) in enumerate(zip(sources, clips, strict=True)):
                header = {
                    **job.header(source),
                    "bucket": job.bucket,
                    "fps": fps,
                    "scale": "raw",
                    "transform": "whole frame",
                }
                packed.append(pack({name: values[index] for name, values in tensors.items()}, header))
        return packed

    def _encoded(self, job: ShardJob, clips: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Means and log-variances of every view of the clips: as they are, their middle frames, other sizes."""
        video = to_video(clips).to(self._config.device)
        views = {"": video}
        if job.images:
            middle = video[:, :, video.shape[2] // 2, None]
            views[IMAGE_VIEW] = middle.repeat(1, 1, self._autoencoder.compression.time, 1, 1)
        for scale in job.scales:
            shape = VideoShape.parse(job.bucket).scaled(scale, _STEP_PX)
            views[scale_view(scale)] = covering(video, shape.height, shape.width)
        posteriors = {view: self._autoencoder.encode(seen) for view, seen in views.items()}
        means = {f"{view}mean": posterior.mean for view, posterior in posteriors.items()}
        return means | {f"{view}logvar": posterior.logvar for view, posterior in posteriors.items()}

    def _prompts(self, job: ShardJob, reader: MemberReader) -> list[bytes]:
        texts = [json.loads(reader.read(source)) for source in job.sources]
        states = self._states([text[form] for text in texts for form in ("dense", "short")])
        return [
            pack({form: states[text[form]] for form in ("dense", "short")}, job.header(source))
            for source, text in zip(job.sources, texts, strict=True)
        ]

    def _states(self, texts: Sequence[str]) -> dict[str, Tensor]:
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        size = self._config.text_batch_size
        states: dict[str, Tensor] = {}
        for start in range(0, len(unique), size):
            batch = unique[start : start + size]
            states |= zip(batch, self._text_encoder.encode(batch), strict=True)
        return states


def decode_clip(data: bytes, bucket: str) -> tuple[np.ndarray, float]:
    """The frames (uint8 T H W C) and the frame rate of a clip's MP4 bytes.

    Raises:
        ShardError: the clip has another size than its bucket.
        DecodeError: the bytes are no video.
    """
    shape = VideoShape.parse(bucket)
    with TemporaryDirectory(prefix="skyloom-") as folder:
        path = Path(folder, "clip.mp4")
        path.write_bytes(data)
        frames = read_frames(path)
        with open_video(path) as (_, stream):
            fps = float(stream.average_rate or 0)
    if frames.shape[:3] != shape:
        raise ShardError(f"a clip of bucket {bucket} decodes to T H W {frames.shape[:3]}; curate again")
    return frames, fps

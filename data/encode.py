"""Video shards to latents, captions to prompt states: a Ray actor takes a whole shard and writes its twin."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from data.latents import LATENT_GROUP, LATENT_SUFFIX, PROMPT_GROUP, PROMPT_SUFFIX, pack, read_header
from data.manifest import Dataset, Member, MemberReader, publish, retract
from data.shards import TEXT_GROUP, VIDEO_GROUP, existing_entries, shard_name
from data.stage import StageResult
from data.tars import write_tar
from data.video import open_video, read_frames
from data.workspace import Workspace
from model.autoencoder import VideoAutoencoder
from model.errors import ConfigError, ShardError, StageError
from model.pixels import to_video
from model.shapes import VideoShape
from model.text import load_text_encoder
from model.weights import weights_digest

logger = logging.getLogger(__name__)

ENCODER_VERSION = 1
"""Raise it when the same video and weights are to give other latents: every shard is then made again."""

_DIGEST_DIGITS = 8


@dataclass(frozen=True)
class ShardJob:
    """One shard to make: `group` and `name` of what comes out, the members it is made from, and by what."""

    group: str
    name: str
    bucket: str
    sources: list[Member]
    maker: str
    images: bool = False

    @property
    def maker_role(self) -> str:
        """The header field that names the weights."""
        return "autoencoder" if self.group == LATENT_GROUP else "text_encoder"

    @property
    def member_names(self) -> list[str]:
        """The names of the shard's members, in order."""
        suffix = LATENT_SUFFIX if self.group == LATENT_GROUP else PROMPT_SUFFIX
        return [f"{source.key}.{suffix}" for source in self.sources]

    def header(self, source: Member) -> dict[str, str | float | int]:
        """The header fields that prove what a member was made from."""
        fields: dict[str, str | float | int] = {self.maker_role: self.maker, "source": source.digest}
        return fields | {"version": ENCODER_VERSION, "images": self.images and self.group == LATENT_GROUP}


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
    jobs = plan_jobs(dataset, makers, images=config.images)
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


def plan_jobs(dataset: Dataset, makers: Mapping[str, str], *, images: bool = False) -> list[ShardJob]:
    """The shards to make, first all of latents, then all of prompts, in the order of the dataset's own."""
    groups = (
        (LATENT_GROUP, VIDEO_GROUP, makers["autoencoder"]),
        (PROMPT_GROUP, TEXT_GROUP, makers["text_encoder"]),
    )
    return [
        ShardJob(
            group, shard_name(f"{group}-{maker[:_DIGEST_DIGITS]}", index), sources[0].bucket, sources, maker, images
        )
        for group, source_group, maker in groups
        for index, sources in enumerate(dataset.by_shard(source_group).values())
    ]


def proven_members(folder: Path, job: ShardJob) -> list[Member] | None:
    """The members of a job's shard, or None when it is to be made: each header names source and weights."""
    path = folder / job.name
    entries = existing_entries(path)
    if [entry.name for entry in entries] != job.member_names:
        return None
    members = [
        Member(source.key, job.group, job.name, entry.offset, entry.size, job.bucket, entry.digest)
        for source, entry in zip(job.sources, entries, strict=True)
    ]
    with MemberReader(folder) as reader:
        for source, member in zip(job.sources, members, strict=True):
            try:
                header = read_header(reader.read(member))
            except ShardError:
                return None
            if not job.header(source).items() <= header.items():
                return None
    return members


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
    remote = ray.remote(ShardEncoder).options(num_cpus=1, num_gpus=config.num_gpus)
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
        # bf16 is what is stored, and costs a CPU 60 % of the time of fp32.
        rounding = torch.autocast(torch.device(self._config.device).type, dtype=torch.bfloat16)
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
            tensors = self._encoded([frames for frames, _ in clips], images=job.images)
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

    def _encoded(self, clips: Sequence[np.ndarray], *, images: bool) -> dict[str, Tensor]:
        """Means and log-variances of the clips and, where asked for, of their middle frames as images."""
        mean, logvar = self._autoencoder.encode(to_video(clips).to(self._config.device))
        if not images:
            return {"mean": mean, "logvar": logvar}
        group = self._autoencoder.compression.time
        stills = [clip[len(clip) // 2][None].repeat(group, axis=0) for clip in clips]
        image = self._autoencoder.encode(to_video(stills).to(self._config.device))
        return {"mean": mean, "logvar": logvar, "image_mean": image.mean, "image_logvar": image.logvar}

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

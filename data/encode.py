"""Video shards to latents, captions to prompt states: a Ray actor takes a whole shard and writes its twin."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util import ActorPool

from data.atomic import remove_partials
from data.cluster import ensure_ray
from data.config import EncodeConfig
from data.encode_plan import ShardJob, plan_jobs, proven_members
from data.encode_shard import ShardEncoder
from data.latents import LATENT_GROUP, PROMPT_GROUP, read_header
from data.manifest import Dataset, Member, MemberReader, publish, retract
from data.stage import StageResult
from data.workspace import Workspace
from model.errors import ConfigError, StageError
from model.text import load_text_encoder
from model.weights import weights_digest

logger = logging.getLogger(__name__)

MAX_LOST = 3
"""How often the worker of a shard may be lost before the stage gives up."""


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

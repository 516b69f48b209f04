"""Which latent and prompt shards an encoding makes, from what, and how a shard proves that it was made from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.latents import LATENT_GROUP, LATENT_SUFFIX, PROMPT_GROUP, PROMPT_SUFFIX, read_header
from data.manifest import Dataset, Member, MemberReader
from data.shards import TEXT_GROUP, VIDEO_GROUP, existing_entries, shard_name
from model.errors import ShardError

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
    scales: tuple[float, ...] = ()

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
        is_latent = self.group == LATENT_GROUP
        fields: dict[str, str | float | int] = {self.maker_role: self.maker, "source": source.digest}
        fields |= {"version": ENCODER_VERSION, "images": self.images and is_latent}
        # said even where there are none: shards that have some are others
        return fields | {"scales": json.dumps(self.scales if is_latent else ())}


def plan_jobs(
    dataset: Dataset, makers: Mapping[str, str], *, images: bool = False, scales: tuple[float, ...] = ()
) -> list[ShardJob]:
    """The shards to make, first all of latents, then all of prompts, in the order of the dataset's own."""
    groups = (
        (LATENT_GROUP, VIDEO_GROUP, makers["autoencoder"]),
        (PROMPT_GROUP, TEXT_GROUP, makers["text_encoder"]),
    )
    return [
        ShardJob(
            group,
            shard_name(f"{group}-{maker[:_DIGEST_DIGITS]}", index),
            sources[0].bucket,
            sources,
            maker,
            images,
            scales,
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
            # shards from before other sizes could be encoded have none, and do not say so
            if not job.header(source).items() <= ({"scales": "[]"} | header).items():
                return None
    return members

"""The index of a folder of shards: where each member lies, what it hashes to, and one digest over it all."""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, ValidationError

from data.atomic import remove_partials, replacing
from model.config import Config, digest_of
from model.errors import ShardError
from model.weights import file_digest

logger = logging.getLogger(__name__)

MANIFEST_NAME = "manifest.parquet"
CARD_NAME = "dataset.json"
MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("bucket", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Member:
    """One row of the manifest: `size` bytes at `offset` of the file `shard`, whose sha256 is `digest`."""

    key: str
    group: str
    shard: str
    offset: int
    size: int
    bucket: str
    digest: str


class DatasetCard(Config):
    """What `dataset.json` says; it is written last, so its presence means that the folder is whole."""

    dataset_id: str = Field(description="Merkle digest of the manifest and the parents")
    num_clips: int = Field(ge=1)
    shards: dict[str, str] = Field(description="sha256 of each shard file, by name")
    parents: dict[str, str] = Field(default={}, description="digests of what this was made from, by role")
    facts: dict[str, int] = Field(default={}, description="sizes that a reader needs before it opens a shard")


@dataclass(frozen=True)
class Dataset:
    """A whole folder of shards: its card, and its members in the order of the manifest."""

    folder: Path
    card: DatasetCard
    members: list[Member]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """The dataset in a folder.

        Raises:
            ShardError: no finished dataset lies there, or its card does not belong to its manifest.
        """
        card = read_card(folder)
        if card is None:
            raise ShardError(
                f"{folder} holds no finished dataset ({CARD_NAME} is missing); run the stage that writes it"
            )
        members = read_manifest(folder)
        dataset_id = merkle_digest(members, card.parents)
        if dataset_id != card.dataset_id:
            raise ShardError(f"the manifest in {folder} hashes to {dataset_id}, not {card.dataset_id}; write it again")
        return cls(folder, card, members)

    def group(self, name: str) -> list[Member]:
        """The members of one group, in order."""
        return [member for member in self.members if member.group == name]

    def by_shard(self, group: str) -> dict[str, list[Member]]:
        """The members of one group by shard name; shards and members in order."""
        shards: dict[str, list[Member]] = {}
        for member in self.group(group):
            shards.setdefault(member.shard, []).append(member)
        return shards


def read_card(folder: Path) -> DatasetCard | None:
    """The card of a folder, or None where no dataset was finished (or its card is unreadable)."""
    try:
        return DatasetCard.model_validate_json((folder / CARD_NAME).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        logger.warning("%s is not a dataset card and is ignored: %s", folder / CARD_NAME, error)
        return None


def read_manifest(folder: Path) -> list[Member]:
    """The members that a folder's manifest lists, in its order.

    Raises:
        ShardError: the manifest is missing, damaged or has other columns.
    """
    path = folder / MANIFEST_NAME
    try:
        table = pq.read_table(path, columns=[field.name for field in fields(Member)])
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path} is no readable manifest ({error}); run the stage that writes it") from error
    return [Member(**row) for row in table.to_pylist()]


def merkle_digest(members: Sequence[Member], parents: dict[str, str]) -> str:
    """One digest for all members: a node per shard over its rows, a root over the nodes and the parents."""
    rows: dict[str, Any] = {}
    for member in members:
        row = [member.key, member.offset, member.size, member.bucket, member.digest]
        rows.setdefault(f"{member.group}/{member.shard}", hashlib.sha256()).update(json.dumps(row).encode())
    return digest_of({"shards": {name: node.hexdigest() for name, node in rows.items()}, "parents": parents})


def retract(folder: Path) -> None:
    """Marks a folder unfinished before its shards change, so that no reader mixes old and new."""
    (folder / CARD_NAME).unlink(missing_ok=True)


def publish(
    folder: Path,
    members: Sequence[Member],
    *,
    parents: dict[str, str] | None = None,
    facts: dict[str, int] | None = None,
) -> DatasetCard:
    """The card of the finished dataset: writes the manifest, drops tars that it does not name, then the card.

    Raises:
        ShardError: there is no member, or a group lacks keys that another has, or has them in another order.
    """
    check_same_keys(members)
    names = sorted({member.shard for member in members})
    card = DatasetCard(
        dataset_id=merkle_digest(members, parents or {}),
        num_clips=len({member.key for member in members}),
        shards={name: file_digest(folder / name) for name in names},
        parents=parents or {},
        facts=facts or {},
    )
    if card != read_card(folder) or not (folder / MANIFEST_NAME).exists():
        retract(folder)
    write_manifest(folder, members)
    _remove_strangers(folder, names)
    with replacing(folder / CARD_NAME) as partial:
        partial.write_text(json.dumps(card.model_dump(mode="json"), indent=2, sort_keys=True) + "\n")
    return card


def write_manifest(folder: Path, members: Iterable[Member]) -> None:
    """Writes the manifest atomically; the same members give the same bytes."""
    table = pa.Table.from_pylist([asdict(member) for member in members], schema=MANIFEST_SCHEMA)
    with replacing(folder / MANIFEST_NAME) as partial:
        pq.write_table(table, partial, compression="zstd")


def _remove_strangers(folder: Path, names: Sequence[str]) -> None:
    remove_partials(folder)
    for path in folder.glob("*.tar"):
        if path.name not in names:
            logger.info("%s belongs to an older dataset and is removed", path)
            path.unlink()


def check_same_keys(members: Sequence[Member]) -> None:
    """Passes when each group holds the same keys in the same order, each once.

    Raises:
        ShardError: it does not, or there is no member at all.
    """
    groups: dict[str, list[str]] = {}
    for member in members:
        groups.setdefault(member.group, []).append(member.key)
    if not groups:
        raise ShardError("the dataset would be empty; check that curation keeps clips and that they have captions")
    (first, expected), *others = groups.items()
    if len(set(expected)) != len(expected):
        raise ShardError(f"group {first} names a key twice; each clip may stand once in a dataset")
    for name, keys in others:
        if keys != expected:
            odd = min(set(keys) ^ set(expected), default="only in their order")
            raise ShardError(f"groups {first} and {name} differ in keys ({odd}); write the shards again")


class MemberReader:
    """Reads members by offset with plain positioned reads; shards stay open until `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, int] = {}

    def read(self, member: Member) -> bytes:
        """The member's bytes, verified.

        Raises:
            ShardError: the shard is missing or no plain name, or the bytes do not hash to the manifest's digest.
        """
        data = os.pread(self._file(member.shard), member.size, member.offset)
        digest = hashlib.sha256(data).hexdigest()
        if digest != member.digest:
            raise ShardError(
                f"{self._folder / member.shard} holds other bytes for {member.key} than the manifest says "
                f"(sha256 {digest[:12]}, expected {member.digest[:12]}); run the stage that writes it again"
            )
        return data

    def close(self) -> None:
        """Closes every open shard."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _file(self, shard: str) -> int:
        if shard not in self._files:
            if Path(shard).name != shard:
                raise ShardError(f"{self._folder}: the manifest's shard {shard!r} is no plain file name; shard again")
            try:
                self._files[shard] = os.open(self._folder / shard, os.O_RDONLY)
            except FileNotFoundError as error:
                raise ShardError(f"{self._folder / shard} is missing; run the stage that writes it again") from error
        return self._files[shard]


def read_member(folder: Path, member: Member) -> bytes:
    """One member's bytes, verified; use a `MemberReader` for many.

    Raises:
        ShardError: as `MemberReader.read`.
    """
    with MemberReader(folder) as reader:
        return reader.read(member)

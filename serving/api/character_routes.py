"""Routes of characters: a clip gets a name, and `characters` of a later request takes up what it shows.

The SDK makes and retrieves them; to list and delete them is ours.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from serving.api.backend import Backend, UsesBackend
from serving.api.documented import takes
from serving.api.errors import ApiError
from serving.api.forms import read_fields
from serving.api.materials import UPLOADS_AT_ONCE, take_video
from serving.api.operations import Input
from serving.api.paging import PageEnds, UsesCursor, cut
from serving.api.schema import Text, parse
from serving.limits import ModelFacts
from serving.store.tables import Character

router = APIRouter(prefix="/v1/videos/characters")


class CreateCharacter(BaseModel):
    """The body of a new character; its `video` is taken out before."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[Text, Field(min_length=1, max_length=256)]


class CharacterCard(BaseModel):
    """A character as clients see it."""

    id: str
    object: Literal["character"] = "character"
    created_at: int
    expires_at: int
    name: str

    @classmethod
    def of(cls, character: Character, retention_s: float) -> "CharacterCard":
        """The row as clients see it; it is kept for `retention_s`."""
        made, expires = int(character.created_s), int(character.created_s + retention_s)
        return cls(id=character.id, created_at=made, expires_at=expires, name=character.name)


class CharacterList(PageEnds):
    """One page of characters."""

    object: Literal["list"] = "list"
    data: list[CharacterCard]


class CharacterDeleted(BaseModel):
    """The reply to a deletion."""

    id: str
    object: Literal["character.deleted"] = "character.deleted"
    deleted: Literal[True] = True


@router.post("", openapi_extra=takes(CreateCharacter, "video"))
async def create_character(request: Request, backend: UsesBackend) -> CharacterCard:
    """Keeps a clip under a name."""
    fields = await read_fields(request)
    video = {key: fields.pop(key) for key in ("video",) if key in fields}
    wanted = parse(CreateCharacter, fields)
    facts = await backend.facts_soon()
    clip = await take_video(video, "video", backend, facts)
    async with UPLOADS_AT_ONCE:
        kept = await run_in_threadpool(_keep, wanted.name, clip, backend, facts)
    return CharacterCard.of(kept, backend.config.retention_s)


@router.get("")
def list_characters(backend: UsesBackend, cursor: UsesCursor) -> CharacterList:
    """The caller's characters, the newest first."""
    page, ends = cut(backend.characters.list(backend.caller.owner), cursor)
    cards = [CharacterCard.of(character, backend.config.retention_s) for character in page]
    return CharacterList(data=cards, **dict(ends))


@router.get("/{character_id}")
def get_character(character_id: str, backend: UsesBackend) -> CharacterCard:
    """One character."""
    return CharacterCard.of(backend.character(character_id), backend.config.retention_s)


@router.delete("/{character_id}")
def delete_character(character_id: str, backend: UsesBackend) -> CharacterDeleted:
    """Forgets a character; videos that were asked for with it are still made."""
    found = backend.character(character_id)
    backend.characters.delete(found)
    return CharacterDeleted(id=found.id)


def _keep(name: str, clip: Input, backend: Backend, facts: ModelFacts) -> Character:
    """A character outlives the video that it was taken from, so the frames of a job are copied."""
    if clip.upload is not None:
        return backend.characters.create(name, clip.upload, clip.shape, backend.caller.owner)
    path = backend.storage.path(backend.job(clip.job or ""), "video")
    if not path.is_file():
        raise ApiError(404, f"The video {clip.job} is no longer stored.", code="content_not_found", param="video")
    owner, most = backend.caller.owner, clip.shape.num_frames
    material = backend.intake.take(
        path.read_bytes(), "video", [clip.shape], fps=facts.fps, max_frames=most, param="video", owner=owner
    )
    return backend.characters.create(name, material.name, material.shape, owner)

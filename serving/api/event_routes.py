"""The events of one video as a stream that a client may leave and join again where it was."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.concurrency import run_in_threadpool
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel

from serving.api.backend import UsesBackend
from serving.api.errors import invalid
from serving.store.events import LAST
from serving.store.tables import Event, Job

router = APIRouter(prefix="/v1/videos")
LOOK_EVERY_S = 0.2


class VideoEvent(BaseModel):
    """The data of one event."""

    id: str
    type: str
    created_at: int
    progress: int

    @classmethod
    def of(cls, event: Event) -> "VideoEvent":
        """The row as clients see it."""
        return cls(id=event.job_id, type=event.type, created_at=int(event.created_s), progress=event.progress)


def job_of(video_id: str, backend: UsesBackend) -> Job:
    """The job, looked up before the stream begins: a 404 cannot come after its head."""
    return backend.job(video_id)


def since(last_event_id: Annotated[str, Header()] = "0") -> int:
    """Where the client was.

    Raises:
        ApiError: 400 when the header is no id of an event.
    """
    if not last_event_id.isdecimal() or len(last_event_id) > 18:
        raise invalid(f"Last-Event-ID={last_event_id[:40]!r} is no id of an event.", param="Last-Event-ID")
    return int(last_event_id)


@router.get("/{video_id}/events", response_class=EventSourceResponse)
async def stream_events(
    job: Annotated[Job, Depends(job_of)], sequence: Annotated[int, Depends(since)], backend: UsesBackend
) -> AsyncIterator[ServerSentEvent]:
    """What happens to a video, from `Last-Event-ID` on; ends with the video."""
    has_ended = job.status in ("completed", "failed")
    while True:
        for event in await run_in_threadpool(backend.events.after, job.id, sequence):
            sequence = event.sequence
            yield ServerSentEvent(id=str(sequence), event=event.type, data=VideoEvent.of(event))
            if event.type in LAST:
                return
        if has_ended:  # and the client knows
            return
        await asyncio.sleep(LOOK_EVERY_S)

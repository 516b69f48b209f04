"""What every route works with: who calls, the job table, files, uploads; and the steps that routes share."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, NamedTuple

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPBearer

from serving.api.access import Caller, caller_of
from serving.api.errors import ApiError, invalid, not_found
from serving.api.intake import Intake
from serving.api.schema import Outlook
from serving.config import ServeConfig
from serving.limits import ModelFacts
from serving.store.admission import FIRST_GUESS_S, Admission, AdmissionError
from serving.store.characters import CharacterTable
from serving.store.database import Database
from serving.store.events import EventTable
from serving.store.jobs import IdempotencyConflictError, JobTable, NewJob
from serving.store.keys import KeyTable
from serving.store.served import ServedTable
from serving.store.storage import VideoStorage
from serving.store.tables import PICTURE_PREFIX, Character, Job, ModelVersion, ServedModel
from serving.store.webhooks import WebhookTable
from serving.tracing import current_parent
from serving.trust.guards import MODERATION_UNAVAILABLE, GuardAwayError
from serving.trust.moderation import CODE as MODERATION_BLOCKED
from serving.trust.moderation import ModerationError, Moderator

LONGEST_KEY, LONGEST_ID = 255, 64
BEARER = HTTPBearer(auto_error=False, description="An API key, where the server has any")
POLL_MS = (250, 10_000)


def is_id(text: str) -> bool:
    """Whether a text could be an id at all; no database is asked for what none can store."""
    return text.isascii() and text.isprintable() and len(text) <= LONGEST_ID


class Backend(NamedTuple):
    """What the routes work with."""

    config: ServeConfig
    jobs: JobTable
    storage: VideoStorage
    intake: Intake
    characters: CharacterTable
    keys: KeyTable
    events: EventTable
    webhooks: WebhookTable
    moderator: Moderator
    served_models: ServedTable
    caller: Caller = Caller()

    @classmethod
    def of(cls, config: ServeConfig) -> "Backend":
        """The parts that a configuration names."""
        database = Database(config.database_url)
        storage, intake = VideoStorage(config.storage), Intake(config.uploads, config.max_upload_bytes)
        return cls(
            config,
            JobTable(database),
            storage,
            intake,
            CharacterTable(database),
            KeyTable(database),
            EventTable(database),
            WebhookTable(database),
            Moderator(config),
            ServedTable(database),
        )

    def character(self, character_id: str) -> Character:
        """The caller's character of that id.

        Raises:
            ApiError: 404 when there is none.
        """
        found = self.characters.get(character_id, self.caller.owner) if is_id(character_id) else None
        if found is None:
            message = f"Character with id {character_id[:80]!r} not found."
            raise ApiError(404, message, code="not_found", param="character_id")
        return found

    def appearance(self, character_id: str) -> Character:
        """As `character`, for a video: its frames will be there even if it is deleted meanwhile.

        Raises:
            ApiError: 404 when there is none, or its frames are gone.
        """
        found = self.character(character_id)
        try:
            self.intake.keep(found.upload)
        except FileNotFoundError as error:
            message = f"The frames of the character {character_id[:80]!r} are gone; make it again."
            raise ApiError(404, message, code="not_found", param="characters") from error
        return found

    def job(self, video_id: str) -> Job:
        """The caller's video of that id.

        Raises:
            ApiError: 404 when it never was, is deleted or another's.
        """
        is_video = is_id(video_id) and not video_id.startswith(PICTURE_PREFIX)
        job = self.jobs.get(video_id, self.caller.owner) if is_video else None
        if job is None:
            raise not_found(video_id)
        return job

    def facts(self, name: object = None) -> ModelFacts:
        """What the model of that name can make; the main one where a request names none, or nothing that is a name.

        Raises:
            ApiError: 400 when there is no such model, 503 before it was first loaded.
        """
        wanted = name if isinstance(name, str) else self.config.model_name
        if wanted not in self.config.model_names:
            version = self.version(wanted)
            if version is None:
                known = " and ".join(map(repr, self.config.model_names))
                message = f"The model {wanted[:80]!r} does not exist; this server has {known} (GET /v1/models)."
                raise invalid(message, param="model", code="model_not_found")
            return ModelFacts.model_validate(version.facts)
        facts = self.served_models.facts(wanted)
        if facts is None:
            raise self.loading(wanted)
        return facts

    def version(self, model_id: str) -> ModelVersion | None:
        """The version that `NAME@VERSION` or `NAME@ALIAS` names now, or None."""
        named = self.config.named(model_id)
        return self.served_models.version(*named) if named and named[1] else None

    def serves(self, model_id: str) -> bool:
        """Whether a request may name this model."""
        return model_id in self.config.model_names or self.version(model_id) is not None

    async def facts_soon(self, name: object = None) -> ModelFacts:
        """As `facts`, for an event loop."""
        return self.facts(name) if self.reads_at_once else await run_in_threadpool(self.facts, name)

    @property
    def reads_at_once(self) -> bool:
        """Whether the database answers a small query without waiting."""
        return self.jobs.database.reads_at_once

    def alive(self) -> ServedModel:
        """The model that the replicas serve, when one of them showed itself lately.

        Raises:
            ApiError: 503 otherwise.
        """
        served = self.served_models.get(self.config.model_name)
        if served is None or time.time() - served.seen_s > 2 * self.config.lease_s:
            raise self.loading(self.config.model_name)
        return served

    def loading(self, name: str) -> ApiError:
        """The reply while no replica has loaded the model."""
        message = f"The model {name!r} is not loaded yet; try again in a few seconds."
        return ApiError(503, message, code="model_loading", headers={"retry-after": "5"})

    def queue(self, new: NewJob) -> Job:
        """The queued job, or the one that the same request made before.

        Raises:
            ApiError: 400 when its prompt is refused, 429 when too many wait or the caller asked for enough, 422 when
                an idempotency key comes with another request.
        """
        return self.queue_all([new])[0]

    def queue_all(self, wanted: Sequence[NewJob]) -> Sequence[Job]:
        """As `queue`, for several jobs: all of them or none."""
        for new in wanted:
            self._check_content(new)
        admission = Admission(self.config.max_queued_jobs, self.caller.quota)
        try:
            made = self.jobs.create_all(
                [replace(new, owner=self.caller.owner, trace=current_parent()) for new in wanted], admission
            )
        except AdmissionError as error:
            advice = {"retry-after": str(math.ceil(error.retry_after_s))}
            raise ApiError(429, str(error), code=error.code, headers=advice) from error
        except IdempotencyConflictError as error:
            message = "This Idempotency-Key was used before, with another request."
            raise ApiError(422, message, code="idempotency_key_reused", param="Idempotency-Key") from error
        return [job for job, _ in made]

    def _check_content(self, new: NewJob) -> None:
        operation = new.settings.get("operation", {})
        cards = [card["prompt"] for card in operation.get("cards", ())]
        try:
            others = [operation.get(name) or "" for name in ("second_prompt", "source_prompt")]
            self.moderator.check_texts([new.prompt, *others, *cards, _sought(new)])
        except ModerationError as error:
            raise invalid(str(error), param="prompt", code=MODERATION_BLOCKED) from error
        except GuardAwayError as error:
            raise ApiError(503, str(error), code=MODERATION_UNAVAILABLE, headers={"retry-after": "5"}) from error

    def outlook(self, job: Job, *, is_new: bool = False) -> Outlook | None:
        """What a pending job has before it; None for one that has ended."""
        if job.status in ("completed", "failed"):
            return None
        num_before, each_s = self.jobs.outlook_at_end() if is_new else self.jobs.outlook(job)
        if each_s is None:
            return Outlook(num_before, None)
        if job.status == "in_progress":
            return Outlook(0, each_s * (100 - job.progress) / 100)
        return Outlook(num_before, each_s * (1 + num_before) / self.config.num_model_replicas)


def _sought(new: NewJob) -> str:
    """The negative prompt where the video is led towards it; elsewhere what is to be avoided may be named."""
    return new.settings["negative_prompt"] if new.settings["guidance_scale"] < 1 else ""


def advise_polling(response: Response, outlook: Outlook | None) -> None:
    """The SDK keeps the first interval that it is told, so it should fit the whole wait."""
    if outlook is not None:
        wait_s = FIRST_GUESS_S * (1 + outlook.num_before) if outlook.wait_s is None else outlook.wait_s
        lowest, highest = POLL_MS
        response.headers["openai-poll-after-ms"] = str(int(min(max(wait_s * 100, lowest), highest)))


class Retry(NamedTuple):
    """How a client marks a repeated request."""

    idempotency_key: str | None
    is_retry: bool


async def retry_of(request: Request) -> Retry:
    """The marks of a request; documented by `queues`.

    Raises:
        ApiError: 400 for a key that is too long.
    """
    key = request.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= LONGEST_KEY:
        raise invalid(f"Idempotency-Key must have 1 to {LONGEST_KEY} characters.", param="Idempotency-Key")
    return Retry(key, request.headers.get("x-stainless-retry-count", "0") not in ("", "0"))


async def open_backend(request: Request) -> Backend:
    """The application's backend for a route that anybody may call."""
    return request.app.state.backend


async def backend_for_caller(request: Request, _documented: Annotated[object, Depends(BEARER)]) -> Backend:
    """The application's backend, limited to what belongs to the caller.

    Raises:
        ApiError: 401 or 403 when the caller may not.
    """
    backend: Backend = request.app.state.backend
    found = partial(caller_of, request, backend.config, backend.keys)
    # to wait for a thread takes longer than a small query
    return backend._replace(caller=found() if backend.reads_at_once else await run_in_threadpool(found))


OpenBackend = Annotated[Backend, Depends(open_backend)]
UsesBackend = Annotated[Backend, Depends(backend_for_caller)]
UsesRetry = Annotated[Retry, Depends(retry_of)]

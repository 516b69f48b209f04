"""What every route works with: settings, the job table, files, uploads; and the steps that routes share."""

import time
from typing import Annotated, NamedTuple

from fastapi import Depends, Header, Request, Response

from serving.characters import CharacterTable
from serving.config import ServeConfig
from serving.errors import ApiError, invalid, not_found
from serving.intake import Intake
from serving.jobs import IdempotencyConflictError, JobTable, NewJob
from serving.storage import VideoStorage
from serving.tables import Character, Job, ServedModel

LONGEST_KEY = 255
POLL_MS = (250, 10_000)
FIRST_GUESS_S = 5.0  # how long a video takes, before the first was made


class Backend(NamedTuple):
    """What the routes work with."""

    config: ServeConfig
    jobs: JobTable
    storage: VideoStorage
    intake: Intake
    characters: CharacterTable

    @classmethod
    def of(cls, config: ServeConfig) -> "Backend":
        """The parts that a configuration names."""
        url = config.database_url
        storage, intake = VideoStorage(config.storage), Intake(config.uploads)
        return cls(config, JobTable(url), storage, intake, CharacterTable(url))

    def character(self, character_id: str) -> Character:
        """The character of that id.

        Raises:
            ApiError: 404 when there is none.
        """
        found = self.characters.get(character_id)
        if found is None:
            message = f"Character with id {character_id[:80]!r} not found."
            raise ApiError(404, message, code="not_found", param="character_id")
        return found

    def job(self, video_id: str) -> Job:
        """The job of that id.

        Raises:
            ApiError: 404 when it never was or is deleted.
        """
        job = self.jobs.get(video_id)
        if job is None:
            raise not_found(video_id)
        return job

    def served(self) -> ServedModel:
        """The model that the replicas serve.

        Raises:
            ApiError: 503 before the first has loaded.
        """
        served = self.jobs.served(self.config.model_name)
        if served is None:
            raise self.loading()
        return served

    def alive(self) -> ServedModel:
        """The model that the replicas serve, when one of them showed itself lately.

        Raises:
            ApiError: 503 otherwise.
        """
        served = self.served()
        if time.time() - served.seen_s > 2 * self.config.lease_s:
            raise self.loading()
        return served

    def loading(self) -> ApiError:
        """The reply while no replica has a model in memory."""
        message = f"The model {self.config.model_name!r} is not loaded yet; try again in a few seconds."
        return ApiError(503, message, code="model_loading", headers={"retry-after": "5"})

    def queue(self, new: NewJob) -> Job:
        """The queued job, or the one that the same request made before.

        Raises:
            ApiError: 429 when too many wait, 422 when an idempotency key comes with another request.
        """
        if self.jobs.num_waiting() >= self.config.max_queued_jobs:
            message = f"{self.config.max_queued_jobs} videos are waiting already; try again later."
            raise ApiError(429, message, code="queue_full", headers={"retry-after": "30"})
        try:
            return self.jobs.create(new)[0]
        except IdempotencyConflictError as error:
            message = "This Idempotency-Key was used before, with another request."
            raise ApiError(422, message, code="idempotency_key_reused", param="Idempotency-Key") from error

    def advise_polling(self, response: Response, job: Job) -> None:
        """The SDK keeps the first interval that it is told, so it should fit the whole wait."""
        if job.status in ("completed", "failed"):
            return
        each_s = self.jobs.recent_duration_s() or FIRST_GUESS_S
        wait_s = each_s * (1 + self.jobs.num_waiting(job)) / self.config.num_model_replicas
        lowest, highest = POLL_MS
        response.headers["openai-poll-after-ms"] = str(int(min(max(wait_s * 100, lowest), highest)))


class Retry(NamedTuple):
    """How a client marks a repeated request."""

    idempotency_key: str | None
    is_retry: bool


def retry_of(
    idempotency_key: Annotated[str | None, Header()] = None,
    x_stainless_retry_count: Annotated[str, Header()] = "0",
) -> Retry:
    """The marks of a request.

    Raises:
        ApiError: 400 for a key that is too long.
    """
    if idempotency_key is not None and not 0 < len(idempotency_key) <= LONGEST_KEY:
        raise invalid(f"Idempotency-Key must have 1 to {LONGEST_KEY} characters.", param="Idempotency-Key")
    return Retry(idempotency_key, x_stainless_retry_count not in ("", "0"))


def backend_of(request: Request) -> Backend:
    """The application's backend."""
    return request.app.state.backend


UsesBackend = Annotated[Backend, Depends(backend_of)]
UsesRetry = Annotated[Retry, Depends(retry_of)]

"""What becomes of a job's frames: looked at, written, signed, handed in, by a thread of its own."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from model.errors import RegistryError, SkyloomError
from model.plan import Piece
from serving.config import ServeConfig
from serving.draft import Draft
from serving.keeper import LeaseKeeper
from serving.limits import ModelFacts
from serving.orders import Shelf, claim_of
from serving.store.jobs import Lease
from serving.store.trouble import NO_SPACE, is_full, is_out_of_reach, unless_in_trouble
from serving.tracing import tracer
from serving.trust.certificates import identity_of
from serving.trust.guards import MODERATION_UNAVAILABLE, GuardAwayError
from serving.trust.mark import marked
from serving.trust.moderation import CODE as MODERATION_BLOCKED
from serving.trust.moderation import ModerationError, Moderator
from serving.trust.provenance import Notary

logger = logging.getLogger(__name__)

_MOST_WAITING = 2  # of a long video two pieces; of a short one the only piece, and its end


@dataclass(frozen=True)
class Film:
    """A job that is being made: its files so far, how long their parts took, and the trace that it belongs to."""

    lease: Lease
    facts: ModelFacts
    draft: Draft
    seconds: dict[str, float] = field(default_factory=lambda: {"check": 0.0, "write": 0.0})
    context: Context = field(default_factory=copy_context)


class Finisher:
    """Does what it is given one after the other, and has the keeper let go of the leases of jobs that ended."""

    def __init__(self, config: ServeConfig, shelf: Shelf, moderator: Moderator, keeper: LeaseKeeper) -> None:
        self._config, self._shelf, self._moderator, self._keeper = config, shelf, moderator, keeper
        self._notary = Notary(identity_of(config))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="finisher")
        self._waiting: deque[Future[bool]] = deque()

    def begin(self, lease: Lease, facts: ModelFacts, num_frames: int) -> Film:
        """A job of which no frame was made yet."""
        folder = self._shelf.storage.attempt_folder(lease.job, lease.fence)
        return Film(lease, facts, Draft(folder, num_frames, facts.fps))

    def add(self, films: Sequence[Film], piece: Piece) -> None:
        """Has the next frames of jobs written; waits while too much is to be done, or frames would pile up."""
        self._give(partial(self._write_all, films, piece))

    def hand_in(self, films: Sequence[Film]) -> None:
        """Has jobs completed whose frames were all added; waits as `add`."""
        self._give(partial(self._complete_all, films))

    def settle(self) -> bool:
        """Whether everything is done now and its outcome written down."""
        outcomes = [self._waiting.popleft().result() for _ in range(len(self._waiting))]
        return all(outcomes)

    def discard(self, films: Sequence[Film]) -> None:
        """Leaves nothing of jobs that are not to be finished."""
        self.settle()
        for film in films:
            film.draft.discard()
            self._shelf.storage.discard_attempt(film.lease.job, film.lease.fence)

    def fail(self, lease: Lease, error: Exception) -> None:
        """Ends a job with the reason."""
        self._keeper.let_go([lease])
        self._shelf.storage.discard_attempt(lease.job, lease.fence)
        self._shelf.jobs.fail(lease, **_reason(error))
        logger.error("job %s failed in attempt %d", lease.job.id, lease.job.attempts, exc_info=error)

    def _give(self, work: Callable[[], None]) -> None:
        if len(self._waiting) == _MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(unless_in_trouble, lambda: (work(), True)[1]))

    def _write_all(self, films: Sequence[Film], piece: Piece) -> None:
        try:
            for film, frames in zip(films, piece.videos, strict=True):
                self._do(film, partial(self._write, film, frames))
        except BaseException:  # leases whose videos would lack frames must run out
            self._abandon(films)
            raise

    def _complete_all(self, films: Sequence[Film]) -> None:
        try:
            for film in films:
                self._do(film, partial(self._complete, film))
                self._keeper.let_go([film.lease])
        except BaseException:
            self._abandon(films)
            raise

    def _abandon(self, films: Sequence[Film]) -> None:
        for film in films:
            self._keeper.let_go([film.lease])
            film.draft.discard()

    def _do(self, film: Film, work: Callable[[], None]) -> None:
        """Does this for a job, unless that ended meanwhile; when it cannot be done, the job has failed."""
        if film.lease not in self._keeper:
            return
        try:
            film.context.run(work)
        except Exception as error:
            film.draft.discard()
            if is_out_of_reach(error):
                raise
            self.fail(film.lease, error)

    def _write(self, film: Film, frames: np.ndarray) -> None:
        began = time.monotonic()
        self._moderator.check_frames(frames, film.facts.fps)
        checked = time.monotonic()
        film.draft.add(marked(frames, self._config.visible_mark))
        film.seconds["check"] += checked - began
        film.seconds["write"] += time.monotonic() - checked

    def _complete(self, film: Film) -> None:
        """Finishes the files of a video and completes its job, unless that was deleted or lost meanwhile."""
        lease, facts, job, began = film.lease, film.facts, film.lease.job, time.monotonic()
        seal = partial(self._notary.sign, claim=claim_of(job, facts, self._shelf))
        with tracer.start_as_current_span("write"):
            files = film.draft.finish(seal)
        film.seconds["write"] += time.monotonic() - began
        result = {
            "files": files,
            "fps": facts.fps,
            "model_version": facts.version,
            "weights_digest": facts.weights_digest,
            "seconds": film.seconds,
        }
        if self._shelf.jobs.complete(lease, result):
            self._shelf.storage.keep_only(job, lease.fence)
        else:
            self._shelf.storage.discard_attempt(job, lease.fence)


def _reason(error: Exception) -> dict[str, str]:
    """What the client is told; the rest stays in the log."""
    if is_full(error):
        return {"code": NO_SPACE, "message": "The server has no space left for the video."}
    if isinstance(error, ModerationError):
        return {"code": MODERATION_BLOCKED, "message": str(error)}
    if isinstance(error, GuardAwayError):
        return {"code": MODERATION_UNAVAILABLE, "message": str(error)}
    if isinstance(error, RegistryError):  # its own words name addresses and folders of ours
        return {"code": "generation_failed", "message": "The model of this video cannot be loaded any more."}
    if isinstance(error, SkyloomError):
        return {"code": "generation_failed", "message": str(error)}
    return {"code": "server_error", "message": "The video could not be made because of an error inside the server."}

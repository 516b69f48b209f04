"""The loop of a model replica: claim a job, render it under a lease, hand in the result; then look at the alias.

While a result is checked, signed and written, the next job is rendered already: the model does not wait for files.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import Context, copy_context
from functools import partial
from typing import NamedTuple

import numpy as np

from model.errors import SkyloomError
from serving.api.intake import Intake
from serving.config import ServeConfig
from serving.engine import Made, make, write_files
from serving.hosted import HostedModels, Load, Registry
from serving.limits import ModelFacts
from serving.orders import Shelf, claim_of, order_of, uploads_of
from serving.store.jobs import JobTable, Lease
from serving.store.served import ServedTable
from serving.store.storage import VideoStorage
from serving.store.trouble import NO_SPACE, is_full, is_out_of_reach, passes
from serving.tracing import StepSpans, batch_span, tracer
from serving.trust.certificates import identity_of
from serving.trust.mark import marked
from serving.trust.moderation import CODE as MODERATION_BLOCKED
from serving.trust.moderation import ModerationError, Moderator
from serving.trust.provenance import Notary

logger = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 0.25  # each report is a durable commit


class Rendered(NamedTuple):
    """The frames of a job, not yet handed in; `context` is the trace that it belongs to."""

    lease: Lease
    facts: ModelFacts
    frames: np.ndarray
    seconds: dict[str, float]
    context: Context


class Worker:
    """Models in memory and three threads: one renders, one hands in, one keeps the leases of both alive."""

    def __init__(
        self,
        config: ServeConfig,
        *,
        name: str,
        jobs: JobTable,
        registry: Registry,
        load: Load,
    ) -> None:
        self._config = config
        self._name = name
        self._jobs = jobs
        self._served = ServedTable(jobs.database)
        self._storage = VideoStorage(config.storage)
        self._shelf = Shelf(jobs, self._storage, Intake(config.uploads))
        self._moderator = Moderator(config)
        self._notary = Notary(identity_of(config))
        self._models = HostedModels(config, registry, load, self._served)
        self._held: dict[str, Lease] = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._work, self._keep_alive)]

    @property
    def version(self) -> str:
        """The version of the main model; empty before `start`."""
        return self._models.versions.get(self._config.model_name, "")

    def start(self) -> None:
        """Loads the models, then begins to pull jobs.

        Raises:
            RegistryError: an alias names nothing that can be loaded.
        """
        self._models.take_all()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends both threads; a job under way goes back to the table, its attempt not counted."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def is_alive(self) -> bool:
        """Whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def follow_aliases(self) -> None:
        """Loads what the registry's aliases name now."""
        self._models.follow_aliases()

    def run_one(self) -> bool:
        """Whether there was a job; it, and what could be made with it, is completed, failed or lost now."""
        rendered: list[Rendered] = []
        had_one = self._render_next(rendered)
        self._hand_in_all(rendered)
        return had_one

    def _claim(self) -> list[Lease]:
        """A waiting job and what can be made in one batch with it, or nothing."""
        table, lease_s = self._jobs, self._config.lease_s
        first = table.claim(self._name, lease_s=lease_s, models=self._config.model_names)
        if first is None:
            return []
        more = table.claim_alike(first, self._name, lease_s=lease_s, limit=self._config.max_batch - 1)
        leases = [first, *more]
        self._held |= {lease.job.id: lease for lease in leases}
        return leases

    def _work(self) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix="hand-in") as hands:
            before: Future[bool] | None = None
            while not self._stop.is_set():
                unless_in_trouble(self._models.follow_aliases)
                rendered: list[Rendered] = []
                if not unless_in_trouble(partial(self._render_next, rendered)):
                    self._stop.wait(self._config.poll_interval_s)
                    continue
                if before is not None:
                    before.result()  # one at a time, or finished frames would pile up
                before = hands.submit(unless_in_trouble, partial(self._hand_in_all, rendered))

    def _render_next(self, rendered: list[Rendered]) -> bool:
        """Whether there was a job; what was made of it is put to `rendered`."""
        leases = self._claim()
        try:
            rendered += self._render(leases)
        except BaseException:  # a lease that nobody works on must run out
            self._let_go(leases)
            raise
        return bool(leases)

    def _keep_alive(self) -> None:
        while not self._stop.wait(self._config.lease_s / 4):
            unless_in_trouble(self._renew_all)

    def _renew_all(self) -> None:
        for lease in list(self._held.values()):
            self._jobs.renew(lease, lease_s=self._config.lease_s)
        for name in self._config.model_names:
            self._served.mark_seen(name)

    def _render(self, leases: list[Lease]) -> list[Rendered]:
        """The frames of the jobs; when a batch fails, each of it is tried alone: none fails for another's fault."""
        if not leases:
            return []
        try:
            rendered = self._sampled(leases)
        except Exception as error:
            if is_out_of_reach(error):  # not the job's fault
                raise
            if len(leases) > 1:
                logger.warning("a batch of %d failed (%r); its videos are made one by one", len(leases), error)
                return [one for lease in leases for one in self._render([lease])]
            self._fail(leases[0], error)
            return []
        if not rendered:
            self._let_go(leases)
        return rendered

    def _sampled(self, leases: list[Lease]) -> list[Rendered]:
        for lease in leases:
            for frames in uploads_of(lease.job, self._shelf):
                self._moderator.check_frames(frames)
        model = self._models.get(leases[0].job.model)  # a batch is of one model
        orders = [order_of(lease.job, model.facts, self._config, self._shelf) for lease in leases]
        with batch_span([lease.job.trace for lease in leases]), closing(make(model.pipeline, orders)) as steps:
            made = self._report(leases, steps)
            if made is None:
                return []
            pairs = zip(leases, made.videos, strict=True)
            return [Rendered(lease, model.facts, frames, made.seconds, copy_context()) for lease, frames in pairs]

    def _hand_in_all(self, rendered: list[Rendered]) -> bool:
        """Whether there was anything to hand in; each job is completed, failed or lost now."""
        try:
            for one in rendered:
                try:
                    one.context.run(self._hand_in, one)
                except Exception as error:
                    if is_out_of_reach(error):
                        raise
                    self._fail(one.lease, error)
                self._let_go([one.lease])
        finally:
            self._let_go([one.lease for one in rendered])
        return bool(rendered)

    def _fail(self, lease: Lease, error: Exception) -> None:
        self._let_go([lease])
        self._storage.discard_attempt(lease.job, lease.fence)
        self._jobs.fail(lease, **_reason(error))
        logger.error("job %s failed in attempt %d", lease.job.id, lease.job.attempts, exc_info=error)

    def _let_go(self, leases: Iterable[Lease]) -> None:
        """Renews these leases no more."""
        for lease in leases:
            self._held.pop(lease.job.id, None)

    def _hand_in(self, rendered: Rendered) -> None:
        """Writes the files of a video and completes its job, unless that was deleted or lost meanwhile."""
        lease, facts, frames, seconds, _ = rendered
        job, began = lease.job, time.monotonic()
        self._moderator.check_frames(frames)
        checked = time.monotonic()
        seal = partial(self._notary.sign, claim=claim_of(job, facts, self._shelf))
        folder = self._storage.attempt_folder(job, lease.fence)
        with tracer.start_as_current_span("write"):
            files = write_files(marked(frames, self._config.visible_mark), facts.fps, folder, seal)
        result = {
            "files": files,
            "fps": facts.fps,
            "model_version": facts.version,
            "weights_digest": facts.weights_digest,
            "seconds": seconds | {"check": checked - began, "write": time.monotonic() - checked},
        }
        if self._jobs.complete(lease, result):
            self._storage.keep_only(job, lease.fence)
        else:
            self._storage.discard_attempt(job, lease.fence)

    def _report(self, leases: list[Lease], steps: Generator[int, None, Made]) -> Made | None:
        """What the steps return, or None when every job was deleted or lost, or was handed back, meanwhile."""
        next_report, spans = 0.0, StepSpans()
        while True:
            try:
                percent = next(steps)
            except StopIteration as done:
                return done.value
            spans.step(percent)
            if self._stop.is_set():
                for lease in leases:
                    self._jobs.release(lease)
                return None
            if not any(map(self._jobs.holds, leases)):
                return None
            if time.monotonic() >= next_report:
                next_report = time.monotonic() + _PROGRESS_EVERY_S
                for lease in leases:
                    self._jobs.renew(lease, lease_s=self._config.lease_s, progress=percent)


def unless_in_trouble(work: Callable[[], bool | None]) -> bool:
    """Whether there was work; False when its outcome could not be written down: no space, or no answer.

    The worker lives on: the job's lease runs out, and it is made again when the trouble has passed.
    """
    try:
        return bool(work())
    except Exception as error:
        if not passes(error):
            raise
        logger.exception("the job table cannot be written at the moment")
        return False


def _reason(error: Exception) -> dict[str, str]:
    """What the client is told; the rest stays in the log."""
    if is_full(error):
        return {"code": NO_SPACE, "message": "The server has no space left for the video."}
    if isinstance(error, ModerationError):
        return {"code": MODERATION_BLOCKED, "message": str(error)}
    if isinstance(error, SkyloomError):
        return {"code": "generation_failed", "message": str(error)}
    return {"code": "server_error", "message": "The video could not be made because of an error inside the server."}

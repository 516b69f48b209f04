"""The loop of a model replica: claim a job, render it under a lease, hand in the result; then look at the alias.

While frames are checked and written and a result is signed, the next ones are rendered already: the model does not wait
for files (`serving/finisher.py`).
"""

import logging
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing

from model.plan import Piece
from serving.api.intake import Intake
from serving.config import ServeConfig
from serving.engine import make
from serving.finisher import Film, Finisher
from serving.hosted import HostedModels, Load, Registry
from serving.orders import Shelf, order_of, uploads_of
from serving.store.jobs import JobTable, Lease
from serving.store.served import ServedTable
from serving.store.storage import VideoStorage
from serving.store.trouble import is_out_of_reach, unless_in_trouble
from serving.tracing import StepSpans, batch_span
from serving.trust.moderation import Moderator

logger = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 0.25  # each report is a durable commit


class Worker:
    """Models in memory and three threads: one renders, the finisher's, and one that keeps the leases of both alive."""

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
        self._shelf = Shelf(jobs, VideoStorage(config.storage), Intake(config.uploads))
        self._moderator = Moderator(config)
        self._models = HostedModels(config, registry, load, self._served)
        self._held: dict[str, Lease] = {}
        self._finisher = Finisher(config, self._shelf, self._moderator, self._held)
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
        had_one = self._render_next()
        return self._finisher.settle() and had_one

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
        while not self._stop.is_set():
            unless_in_trouble(self._models.follow_aliases)
            if not unless_in_trouble(self._render_next):
                self._stop.wait(self._config.poll_interval_s)
        self._finisher.settle()

    def _render_next(self) -> bool:
        """Whether there was a job; what was made of it is left to the finisher."""
        leases = self._claim()
        try:
            films = self._render(leases)
            if films:
                self._finisher.hand_in(films)
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

    def _render(self, leases: list[Lease]) -> list[Film]:
        """The jobs with all their frames; when a batch fails, each is tried alone: none fails for another's fault."""
        if not leases:
            return []
        try:
            films = self._sampled(leases)
        except Exception as error:
            if is_out_of_reach(error):  # not the job's fault
                raise
            if len(leases) > 1:
                logger.warning("a batch of %d failed (%r); its videos are made one by one", len(leases), error)
                return [one for lease in leases for one in self._render([lease])]
            self._finisher.fail(leases[0], error)
            return []
        if not films:
            self._let_go(leases)
        return films

    def _sampled(self, leases: list[Lease]) -> list[Film]:
        model = self._models.get(leases[0].job.model)  # a batch is of one model
        for lease in leases:
            for frames in uploads_of(lease.job, self._shelf):
                self._moderator.check_frames(frames, model.facts.fps)
        orders = [order_of(lease.job, model.facts, self._config, self._shelf) for lease in leases]
        with (
            batch_span([lease.job.trace for lease in leases]),
            closing(make(model.pipeline, orders)) as steps,
            ExitStack() as unfinished,
        ):
            pairs = zip(leases, orders, strict=True)
            films = [self._finisher.begin(lease, model.facts, order.shape.num_frames) for lease, order in pairs]
            unfinished.callback(self._finisher.discard, films)
            seconds = self._report(films, steps)
            if seconds is None:
                return []
            for film in films:
                film.seconds.update(seconds)
            unfinished.pop_all()
            return films

    def _let_go(self, leases: Iterable[Lease]) -> None:
        """Renews these leases no more."""
        for lease in leases:
            self._held.pop(lease.job.id, None)

    def _report(
        self, films: Sequence[Film], steps: Generator[int | Piece, None, dict[str, float]]
    ) -> dict[str, float] | None:
        """What the steps return, or None when every job was deleted or lost, or was handed back, meanwhile."""
        next_report, spans, leases = 0.0, StepSpans(), [film.lease for film in films]
        while True:
            try:
                said = next(steps)
            except StopIteration as done:
                return done.value
            if isinstance(said, Piece):
                self._finisher.add(films, said)
                continue
            spans.step(said)
            is_due = time.monotonic() >= next_report
            if not self._may_go_on(leases, said if is_due else None):
                return None
            if is_due:
                next_report = time.monotonic() + _PROGRESS_EVERY_S

    def _may_go_on(self, leases: Sequence[Lease], progress: int | None) -> bool:
        """Whether any of the jobs is still ours, asked as progress is reported; at a stop they are handed back."""
        if self._stop.is_set():
            for lease in leases:
                self._jobs.release(lease)
            return False
        if progress is None:
            return any(map(self._jobs.holds, leases))
        held = [self._jobs.renew(lease, lease_s=self._config.lease_s, progress=progress) for lease in leases]
        return any(held)

"""The loop of a model replica: claim a job, render it under a lease, hand in the result; then look at the alias.

While frames are checked and written and a result is signed, the next ones are rendered already: the model waits neither
for files (`serving/finisher.py`) nor for progress to be written down (`serving/keeper.py`) nor for the registry.
"""

import logging
import threading
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing

from model.errors import RegistryAwayError
from model.plan import Piece
from serving.api.intake import Intake
from serving.config import ServeConfig
from serving.engine import make
from serving.finisher import Film, Finisher
from serving.hosted import HostedModels, Load, Registry
from serving.keeper import LeaseKeeper
from serving.orders import Shelf, order_of, uploads_of
from serving.store.jobs import JobTable, Lease
from serving.store.served import ServedTable
from serving.store.storage import VideoStorage
from serving.store.trouble import is_out_of_reach, unless_in_trouble
from serving.ticker import Ticker
from serving.tracing import StepSpans, batch_span
from serving.trust.moderation import Moderator

logger = logging.getLogger(__name__)
REGISTRY_PAUSE_S = 30.0


class Worker:
    """Models in memory and a thread that makes videos; what that would wait for is done by others.

    By the finisher's, the keeper's, and one that looks at the registry.
    """

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
        served = ServedTable(jobs.database)
        self._shelf = Shelf(jobs, VideoStorage(config.storage), Intake(config.uploads))
        self._moderator = Moderator(config)
        self._models = HostedModels(config, registry, load, served)
        self._keeper = LeaseKeeper(config, jobs, served)
        self._finisher = Finisher(config, self._shelf, self._moderator, self._keeper)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="worker")
        self._scout = Ticker(self._models.look, config.alias_poll_s)

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
        for each in (self._keeper, self._thread, self._scout):
            each.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends the threads; a job under way goes back to the table, its attempt not counted."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._keeper.stop()
        self._scout.stop(timeout_s=1.0)

    @property
    def is_alive(self) -> bool:
        """Whether jobs are worked off, and their leases renewed."""
        return self._thread.is_alive() and self._keeper.is_alive

    def follow_aliases(self) -> None:
        """Loads what the registry's aliases name now; not for while the threads run, which do so themselves."""
        self._models.look()
        self._models.follow_aliases()

    def run_one(self) -> bool:
        """Whether there was a job; it, and what could be made with it, is completed, failed or lost now."""
        had_one = self._render_next()
        return self._finisher.settle() and had_one

    def _claim(self) -> Sequence[Lease]:
        """A waiting job and what can be made in one batch with it, or nothing."""
        names, most = self._config.model_names, self._config.max_batch
        leases = self._jobs.claim_batch(self._name, lease_s=self._config.lease_s, models=names, limit=most)
        self._keeper.hold(leases)
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
            self._keeper.let_go(leases)
            raise
        return bool(leases)

    def _render(self, leases: Sequence[Lease]) -> list[Film]:
        """The jobs with all their frames; when a batch fails, each is tried alone: none fails for another's fault."""
        if not leases:
            return []
        try:
            films = self._sampled(leases)
        except Exception as error:
            if is_out_of_reach(error):  # not the job's fault
                self._hand_back(leases, error)
                raise
            if len(leases) > 1:
                logger.warning("a batch of %d failed (%r); its videos are made one by one", len(leases), error)
                return [one for lease in leases for one in self._render([lease])]
            self._finisher.fail(leases[0], error)
            return []
        if not films:
            self._keeper.let_go(leases)
        return films

    def _hand_back(self, leases: Sequence[Lease], error: Exception) -> None:
        """While the registry is away the jobs wait for it, attempts uncounted, and others are made before them."""
        if isinstance(error, RegistryAwayError):  # not where the job table itself is away
            for lease in leases:
                self._jobs.release(lease, after_s=REGISTRY_PAUSE_S)

    def _sampled(self, leases: Sequence[Lease]) -> list[Film]:
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

    def _report(
        self, films: Sequence[Film], steps: Generator[int | Piece, None, dict[str, float]]
    ) -> dict[str, float] | None:
        """What the steps return, or None when every job was deleted or lost, or was handed back, meanwhile."""
        spans, leases = StepSpans(), [film.lease for film in films]
        while True:
            try:
                said = next(steps)
            except StopIteration as done:
                return done.value
            if isinstance(said, Piece):
                self._finisher.add(films, said)
                continue
            spans.step(said)
            if not self._may_go_on(leases):
                return None
            self._keeper.report(leases, said)

    def _may_go_on(self, leases: Sequence[Lease]) -> bool:
        """Whether any of the jobs is still ours; at a stop they are handed back."""
        if self._stop.is_set():
            for lease in leases:
                self._jobs.release(lease)
            return False
        return any(map(self._jobs.holds, leases))

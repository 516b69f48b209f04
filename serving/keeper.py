"""The leases under work: renewed, and how far each job is written down, by a thread of its own.

Each report is a durable commit, which the model does not wait for: under many clients it takes as long as a step.
"""

import threading
import time
from collections.abc import Iterable, Sequence

from serving.config import ServeConfig
from serving.store.jobs import JobTable, Lease
from serving.store.served import ServedTable
from serving.store.trouble import unless_in_trouble

REPORT_EVERY_S = 0.25


class LeaseKeeper:
    """Holds leases until it is told to let them go; used by several threads."""

    def __init__(self, config: ServeConfig, jobs: JobTable, served: ServedTable) -> None:
        self._config, self._jobs, self._served = config, jobs, served
        self._leases: dict[str, Lease] = {}
        self._percent: dict[str, int] = {}
        self._often_s = config.lease_s / 4
        self._next_sign_s = 0.0
        self._news, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="keeper")

    def start(self) -> None:
        """Begins to renew."""
        self._thread.start()

    def stop(self) -> None:
        """Renews no more."""
        self._stop.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2 * REPORT_EVERY_S)

    @property
    def is_alive(self) -> bool:
        """Whether leases are renewed."""
        return self._thread.is_alive()

    def __contains__(self, lease: Lease) -> bool:
        """Whether this is held."""
        held = self._leases.get(lease.job.id)
        return held is not None and held.fence == lease.fence

    def hold(self, leases: Sequence[Lease]) -> None:
        """Renews these too from now on."""
        self._leases |= {lease.job.id: lease for lease in leases}

    def let_go(self, leases: Iterable[Lease]) -> None:
        """Renews these no more; a later attempt at the same job, which this worker may have too, is held on."""
        for lease in leases:
            if lease in self:
                self._leases.pop(lease.job.id, None)
                self._percent.pop(lease.job.id, None)

    def report(self, leases: Sequence[Lease], percent: int) -> None:
        """Has it written down soon how far these jobs are, as far as they are held: of a batch some may have failed."""
        self._percent |= {lease.job.id: percent for lease in leases if lease in self}
        self._news.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._news.wait(self._often_s)
            self._stop.wait(min(REPORT_EVERY_S, self._often_s))  # a job that is done by then needs no report
            self._news.clear()
            unless_in_trouble(self._renew_all)
            unless_in_trouble(self._show_signs_of_life)

    def _renew_all(self) -> None:
        leases = list(self._leases.values())
        percent = {lease: self._percent.pop(lease.job.id, None) for lease in leases}
        if percent:
            self._jobs.renew_all(percent, lease_s=self._config.lease_s)

    def _show_signs_of_life(self) -> None:
        if time.monotonic() >= self._next_sign_s:
            self._next_sign_s = time.monotonic() + self._often_s
            for name in self._config.model_names:
                self._served.mark_seen(name)

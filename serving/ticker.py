"""A thread that does something again and again, whatever it raises."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)


class Ticker:
    """Calls `work` every so often, and at once again while it returns that there is more to do."""

    def __init__(self, work: Callable[[], bool | None], every_s: float) -> None:
        self._work = work
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends after the call that runs."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._once():
                self._stop.wait(self._every_s)

    def _once(self) -> bool:
        try:
            return bool(self._work())
        except Exception:  # a full disk or a lost database must not end the thread
            logger.exception("%s failed; it is tried again", self._work)
            return False

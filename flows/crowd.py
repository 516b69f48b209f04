"""Many clients at one server: creators and pollers, and every answer that cannot be right."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpx

FINISHED = ("completed", "failed")
LOOK_EVERY_S, POLL_EVERY_S = 2.0, 0.5


class Sighting(NamedTuple):
    """A state that a poller was told, and when it had read the reply."""

    status: str
    read_s: float


class Crowd:
    """A creator asks for a video, and for the next when that is finished; pollers look at the newest ones.

    Each client has a connection of its own; a pool that many threads share may also close one that was just given out
    (github.com/encode/httpcore/issues/1110).
    """

    def __init__(
        self, url: str, a_video: Mapping[str, object], *, num_pollers: int, num_creators: int, lasts_s: float
    ) -> None:
        self.ids: list[str] = []
        self.wrong: list[str] = []
        self.num_polls = 0
        self._url, self._a_video = url, a_video
        self._clients = [(self._create, LOOK_EVERY_S)] * num_creators + [(self._look, POLL_EVERY_S)] * num_pollers
        self._until = time.monotonic() + lasts_s
        self._seen: dict[str, Sighting] = {}
        self._own: dict[int, str] = {}

    def run(self) -> None:
        """Returns when the time is up and every client has its last answer."""
        with ThreadPoolExecutor(len(self._clients)) as pool:
            for done in [pool.submit(self._live, *each, number) for number, each in enumerate(self._clients)]:
                done.result()

    def _live(self, ask: Callable[[httpx.Client, int], None], every_s: float, number: int) -> None:
        """One client, that asks again so long after each answer."""
        with httpx.Client(base_url=self._url, timeout=60, trust_env=False) as client:
            while time.monotonic() < self._until:
                try:
                    ask(client, number)
                except httpx.TransportError as error:
                    self.wrong.append(f"no answer: {error!r}")
                time.sleep(every_s)

    def _create(self, client: httpx.Client, number: int) -> None:
        """The next video, unless the one before is still being made."""
        own = self._own.get(number)
        if own is not None and self._poll(client, own) not in FINISHED:
            return
        reply = client.post("/videos", json={**self._a_video, "seed": number})
        if reply.status_code == 200:
            self._own[number] = reply.json()["id"]
            self.ids.append(self._own[number])
        else:
            self.wrong.append(f"create {reply.status_code}: {reply.text[:100]}")

    def _look(self, client: httpx.Client, number: int) -> None:
        """At one of the newest videos."""
        if self.ids:
            self._poll(client, self.ids[-1 - number % min(len(self.ids), 100)])

    def _poll(self, client: httpx.Client, video_id: str) -> str | None:
        """The state of a video, which may only move forward; None when it was not told."""
        asked_s = time.monotonic()
        reply = client.get(f"/videos/{video_id}")
        self.num_polls += 1
        if reply.status_code != 200:
            self.wrong.append(f"poll {reply.status_code}: {reply.text[:100]}")
            return None
        now, before = Sighting(reply.json()["status"], time.monotonic()), self._seen.get(video_id)
        # of two replies to two pollers the earlier may be read later
        if before and before.status in FINISHED and now.status != before.status and asked_s > before.read_s:
            self.wrong.append(f"{video_id} went from {before.status} to {now.status}")
        if before is None or before.status not in FINISHED:
            self._seen[video_id] = now
        return now.status

"""What a job's creation costs over a route of the same ingress that does nothing."""

import statistics
import time

import httpx

from flows.bench import Measurement
from serving.app import Server
from serving.empty_route import empty_route

NUM_CREATED, NUM_WARM_UP = 400, 20
LIMITS_MS = {50: 5, 99: 20}
A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "64x64"}


def creation(server: Server) -> dict[str, Measurement]:
    """Milliseconds to create a job, in turn with a route that does nothing and a path that does not exist."""
    with empty_route(server) as empty, httpx.Client(base_url=server.base_url, trust_env=False) as client:
        calls = {
            "empty": lambda: client.post(empty, json=A_VIDEO),
            "missing": lambda: client.get("/nothing"),
            "created": lambda: client.post("/videos", json=A_VIDEO),
        }
        times_ms: dict[str, list[float]] = {name: [] for name in calls}
        for number in range(NUM_WARM_UP + NUM_CREATED):
            for name, call in calls.items():
                began = time.perf_counter()
                reply = call()
                if number >= NUM_WARM_UP:
                    times_ms[name].append(1000 * (time.perf_counter() - began))
                assert reply.is_success == (name != "missing"), f"{name}: {reply.status_code} {reply.text[:200]}"
    return {f"creation-p{percent}": _row(times_ms, percent) for percent in LIMITS_MS}


def _row(times_ms: dict[str, list[float]], percent: int) -> Measurement:
    at = {name: statistics.quantiles(times, n=100)[percent - 1] for name, times in times_ms.items()}
    what = f"creating a job, p{percent} of {NUM_CREATED} (a path that does not exist: {at['missing']:.1f} ms)"
    return Measurement(
        what=what, ours=round(at["created"], 2), unit="ms", peer=round(at["empty"], 2),
        peer_name="an empty route given the same body", goal=f"at most {LIMITS_MS[percent]} ms more",
        holds=at["created"] - at["empty"] <= LIMITS_MS[percent],
    )  # fmt: skip

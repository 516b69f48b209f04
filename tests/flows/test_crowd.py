"""The crowd of the load benchmark sees what is wrong, and lets what is late be."""

from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest

from flows.crowd import Crowd


class Reply(NamedTuple):
    """What a server says next."""

    status_code: int
    state: str = ""


class Script:
    """A server that says what it is told to, in turn."""

    def __init__(self, *replies: Reply) -> None:
        self._replies: Iterator[Reply] = iter(replies)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """The next reply."""
        reply = next(self._replies)
        return httpx.Response(reply.status_code, json={"id": "video_1", "status": reply.state})


def crowd_of(*replies: Reply, polls: int) -> Crowd:
    crowd = Crowd("http://127.0.0.1", {"prompt": "a ball"}, num_pollers=1, num_creators=1, lasts_s=60)
    with httpx.Client(transport=httpx.MockTransport(Script(*replies)), base_url="http://127.0.0.1") as client:
        crowd._create(client, 0)
        for _ in range(polls):
            crowd._look(client, 0)
    return crowd


def test_a_video_that_comes_to_its_end_is_right() -> None:
    crowd = crowd_of(Reply(200), Reply(200, "queued"), Reply(200, "in_progress"), Reply(200, "completed"), polls=3)
    assert (crowd.ids, crowd.wrong, crowd.num_polls) == (["video_1"], [], 3)


@pytest.mark.parametrize(
    ("replies", "complaint"),
    [
        ([Reply(200), Reply(200, "completed"), Reply(200, "in_progress")], "from completed to in_progress"),
        ([Reply(200), Reply(200, "completed"), Reply(404)], "poll 404"),
        ([Reply(200), Reply(200, "completed"), Reply(200, "failed")], "from completed to failed"),
    ],
)
def test_what_goes_backward_or_is_gone_is_wrong(replies: list[Reply], complaint: str) -> None:
    assert [complaint in said for said in crowd_of(*replies, polls=2).wrong] == [True]


def test_a_refused_creation_is_wrong() -> None:
    assert "create 503" in crowd_of(Reply(503), polls=0).wrong[0]


def test_a_creator_asks_for_the_next_when_its_own_is_finished() -> None:
    crowd = Crowd("http://127.0.0.1", {"prompt": "a ball"}, num_pollers=0, num_creators=1, lasts_s=60)
    script = Script(Reply(200), Reply(200, "in_progress"), Reply(200, "completed"), Reply(200))
    with httpx.Client(transport=httpx.MockTransport(script), base_url="http://127.0.0.1") as client:
        for created in (1, 1, 2):
            crowd._create(client, 0)
            assert len(crowd.ids) == created

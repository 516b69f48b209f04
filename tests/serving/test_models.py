"""Several models behind one address, in one replica that cannot hold them all."""

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from serving.api.app import create_app
from serving.config import ServeConfig
from serving.store.jobs import JobTable, NewJob
from serving.worker import Worker

A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


@pytest.fixture
def pair(config: ServeConfig) -> ServeConfig:
    return config.model_copy(update={"more_models": ("second",), "max_loaded": 1})


@pytest.fixture
def both(pair: ServeConfig, jobs: JobTable, hire: Callable[[ServeConfig, JobTable], Worker]) -> Worker:
    return hire(pair, jobs)


@pytest.fixture
def api(pair: ServeConfig, both: Worker) -> Iterator[TestClient]:
    with TestClient(create_app(pair), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def test_each_model_is_listed_and_makes_what_names_it(api: TestClient, both: Worker) -> None:
    assert [card["id"] for card in api.get("/v1/models").json()["data"]] == ["skyloom", "second"]
    assert api.get("/v1/models/second").json()["id"] == "second"
    for name, body in (("second", A_VIDEO | {"model": "second"}), ("skyloom", A_VIDEO)):
        made = api.post("/v1/videos", json=body).json()
        assert made["model"] == name
        assert both.run_one()
        assert api.get(f"/v1/videos/{made['id']}").json()["status"] == "completed"


def test_a_model_that_is_not_served_is_named(api: TestClient) -> None:
    reply = api.post("/v1/videos", json=A_VIDEO | {"model": "third"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "model_not_found")
    assert "'skyloom' and 'second'" in reply.json()["error"]["message"]
    assert api.get("/v1/models/third").status_code == 404


def test_a_changed_video_is_made_by_the_model_that_made_it(api: TestClient, both: Worker) -> None:
    made = api.post("/v1/videos", json=A_VIDEO | {"model": "second"}).json()
    both.run_one()
    for fields, model in (({}, "second"), ({"model": "skyloom"}, "skyloom")):
        remixed = api.post(f"/v1/videos/{made['id']}/remix", json={"prompt": "a blue ball"} | fields).json()
        assert remixed["model"] == model
    gone = api.post("/v1/videos/edits", json={"prompt": "p", "video": {"id": "video_x"}})
    assert gone.status_code == 404


def test_only_so_many_models_stay_in_memory(api: TestClient, both: Worker, shelf) -> None:
    shelf.fetched.clear()
    for name in ("skyloom", "skyloom", "second", "second", "skyloom"):
        api.post("/v1/videos", json=A_VIDEO | {"model": name, "seed": len(shelf.fetched)})
        both.run_one()
    assert len(shelf.fetched) in (2, 3)  # the first may be in memory from the start
    assert shelf.fetched[-2:] == ["second", "skyloom"]


def test_videos_of_two_models_are_not_made_in_one_batch(api: TestClient, both: Worker, painter) -> None:
    for name in ("skyloom", "second", "skyloom", "second"):
        api.post("/v1/videos", json=A_VIDEO | {"model": name})
    while both.run_one():
        pass
    assert painter.batches == [2, 2]


def test_a_replica_leaves_the_jobs_of_other_models_alone(
    config: ServeConfig, jobs: JobTable, hire: Callable[[ServeConfig, JobTable], Worker], api: TestClient
) -> None:
    api.post("/v1/videos", json=A_VIDEO | {"model": "second"})
    for model in ("second@1", "skyloom2@1", "SKYLOOM@1"):
        jobs.create(NewJob(model=model, prompt="p", seconds="1", size="48x32", settings={}))
    assert not hire(config, jobs).run_one()

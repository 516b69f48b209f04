"""Every registered version of a served model, in a real MLflow store: listed, named by requests, made by itself."""

import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from openai import OpenAI

from model.pipeline import SkyloomPipeline
from serving.api.app import create_app
from serving.config import ServeConfig
from serving.engine import LoadedModel
from serving.loader import load_model
from serving.registry import ModelRegistry, RegisteredModel
from serving.store.jobs import JobTable
from serving.store.served import ServedTable
from serving.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
NUMBERS = itertools.count()
A_VIDEO = {"prompt": "a red ball", "seconds": "0.5", "size": "16x16", "num_inference_steps": 1, "seed": 1}


class Versions:
    """A model of two versions, the second of them champion, and a server of it without Ray."""

    def __init__(self, config: ServeConfig, jobs: JobTable, store: Any) -> None:
        self.name = f"versions{next(NUMBERS)}"
        self.store = store
        self.in_memory: weakref.WeakSet[SkyloomPipeline] = weakref.WeakSet()
        for seed in range(2):
            store.register(self.name, seed=seed)
        changes = {"model_name": self.name, "tracking_uri": store.uri, "alias_poll_s": 1e-6}
        self.config = config.model_copy(update=changes)
        registry = ModelRegistry(store.uri)
        self.worker = Worker(self.config, name="tester", jobs=jobs, registry=registry, load=self._load)
        self.worker.follow_aliases()

    def _load(self, model: RegisteredModel, folder: Path) -> LoadedModel:
        loaded = load_model(model, folder)
        assert isinstance(loaded.pipeline, SkyloomPipeline)
        self.in_memory.add(loaded.pipeline)
        return loaded


@pytest.fixture
def served(config: ServeConfig, jobs: JobTable, store) -> Iterator[Versions]:
    made = Versions(config, jobs, store)
    yield made
    made.worker.stop()


@pytest.fixture
def api(served: Versions) -> Iterator[TestClient]:
    with TestClient(create_app(served.config), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def make(api: TestClient, served: Versions) -> Callable[[str], dict[str, Any]]:
    """The finished video of a request that names a model."""

    def ask(model: str) -> dict[str, Any]:
        reply = api.post("/v1/videos", json=A_VIDEO | {"model": model})
        assert reply.status_code == 200, reply.text
        assert served.worker.run_one()
        return api.get(f"/v1/videos/{reply.json()['id']}").json()

    return ask


def test_every_version_is_listed_with_what_tells_it_from_others(api: TestClient, served: Versions, store) -> None:
    store.client.set_registered_model_alias(served.name, "candidate", "1")
    served.worker.follow_aliases()
    plain, first, second = api.get("/v1/models").json()["data"]
    assert [card["id"] for card in (plain, first, second)] == [served.name, f"{served.name}@1", f"{served.name}@2"]
    assert [card["aliases"] for card in (plain, first, second)] == [["champion"], ["candidate"], ["champion"]]
    registered = store.client.get_model_version(served.name, "1")
    assert first["created"] == registered.creation_timestamp // 1000
    assert first["facts"]["version"] == "1"
    assert first["facts"]["weights_digest"] == registered.tags["weights_digest"] != second["facts"]["weights_digest"]
    loaded = plain["facts"] | {"name": second["id"]}
    assert second["facts"] == loaded, "what the small files say is what the loaded model says"


def test_the_sdk_lists_retrieves_and_uses_each_id(api: TestClient, served: Versions) -> None:
    client = OpenAI(base_url="http://127.0.0.1/v1", api_key="any", http_client=api, max_retries=0)
    cards = list(client.models.list())
    assert {(card.object, card.owned_by) for card in cards} == {("model", "skyloom")}
    for card in cards:
        assert client.models.retrieve(card.id) == card
        asked = client.videos.create(prompt="p", model=card.id, seconds="0.5", size="16x16")
        assert served.worker.run_one()
        video = client.videos.retrieve(asked.id)
        assert (video.status, video.model) == ("completed", card.id)
        assert video.weights_digest == card.facts["weights_digest"]
    assert client.models.retrieve(f"{served.name}@champion").id == f"{served.name}@2"
    with pytest.raises(openai.NotFoundError) as missing:
        client.models.retrieve(f"{served.name}@9")
    assert missing.value.code == "model_not_found"


@pytest.mark.parametrize("ending", ["@9", "@nobody", "@", "@@1", "@1@1", "@latest"])
def test_a_version_that_is_not_there_is_refused(api: TestClient, served: Versions, ending: str) -> None:
    model = served.name + ending
    reply = api.post("/v1/videos", json=A_VIDEO | {"model": model})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "model_not_found")
    assert model in reply.json()["error"]["message"]
    assert api.get(f"/v1/models/{model}").status_code == 404


def test_a_version_of_a_model_that_is_not_served_is_refused(api: TestClient, served: Versions, store) -> None:
    store.register(f"{served.name}-other")
    served.worker.follow_aliases()
    reply = api.post("/v1/videos", json=A_VIDEO | {"model": f"{served.name}-other@1"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "model_not_found")


def test_an_alias_means_the_version_that_it_names_at_the_request(
    api: TestClient, served: Versions, store, make: Callable[[str], dict[str, Any]]
) -> None:
    asked = api.post("/v1/videos", json=A_VIDEO | {"model": f"{served.name}@champion"}).json()
    assert asked["model"] == f"{served.name}@2"
    store.client.set_registered_model_alias(served.name, "champion", "1")
    served.worker.follow_aliases()
    assert served.worker.run_one()
    assert api.get(f"/v1/videos/{asked['id']}").json()["model_version"] == "2"
    assert make(served.name)["model_version"] == make(f"{served.name}@champion")["model_version"] == "1"


def test_a_changed_video_stays_with_the_version_that_made_it(
    api: TestClient, served: Versions, make: Callable[[str], dict[str, Any]]
) -> None:
    made = make(f"{served.name}@1")
    remixed = api.post(f"/v1/videos/{made['id']}/remix", json={"prompt": "a blue ball"}).json()
    assert remixed["model"] == f"{served.name}@1"
    served.store.client.delete_model_version(served.name, "1")
    served.worker.follow_aliases()
    assert api.post(f"/v1/videos/{made['id']}/remix", json={"prompt": "p"}).json()["model"] == served.name


def test_only_so_many_versions_stay_in_memory(served: Versions, store, make: Callable[[str], dict[str, Any]]) -> None:
    assert make(f"{served.name}@2")["model_version"] == make(served.name)["model_version"] == "2"
    assert len(served.in_memory) == 1, "the champion is not loaded again under its number"
    store.register(served.name, seed=2)
    served.worker.follow_aliases()
    for version in ("1", "2", "3", "1"):
        assert make(f"{served.name}@{version}")["model_version"] == version
        gc.collect()
        assert len(served.in_memory) <= served.config.max_loaded < 3


def test_a_deleted_version_leaves_the_list_and_fails_what_waits_for_it(
    api: TestClient, served: Versions, store
) -> None:
    asked = api.post("/v1/videos", json=A_VIDEO | {"model": f"{served.name}@1"}).json()
    store.client.delete_model_version(served.name, "1")
    served.worker.follow_aliases()
    assert [card["id"] for card in api.get("/v1/models").json()["data"]] == [served.name, f"{served.name}@2"]
    assert served.worker.run_one()
    failed = api.get(f"/v1/videos/{asked['id']}").json()
    assert failed["error"]["code"] == "generation_failed"
    assert "no version 1 any more" in failed["error"]["message"]


def test_versions_that_cannot_be_served_are_left_out(api: TestClient, served: Versions, store, tmp_path: Path) -> None:
    (tmp_path / "skyloom.json").write_text('{"fps": "no model"}')
    for folder, digest in ((tmp_path, None), (store.root / "pipeline-1", "0" * 64), (tmp_path / "gone", None)):
        tags = {"weights_digest": digest} if digest else {}
        store.client.create_model_version(served.name, source=folder.as_uri(), tags=tags)
    served.worker.follow_aliases()
    ids = [card["id"] for card in api.get("/v1/models").json()["data"]]
    assert ids == [served.name, f"{served.name}@1", f"{served.name}@2"]


def test_what_one_server_listed_another_registry_takes_back(served: Versions, jobs: JobTable) -> None:
    table = ServedTable(jobs.database)
    assert len(table.versions(served.name)) == 2
    table.publish_versions(served.name, [])
    assert table.versions(served.name) == []


def test_a_folder_without_a_registry_keeps_its_one_card(client: TestClient) -> None:
    (card,) = client.get("/v1/models").json()["data"]
    assert (card["id"], card["aliases"]) == ("skyloom", [])
    assert client.get("/v1/models/skyloom@1").status_code == 404

"""The wire format over a worker that paints: objects, both encodings, paging, content, polling advice."""

import io

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image

from data.video import read_frames
from serving.store.jobs import JobTable
from serving.worker import Worker


def as_multipart(client: TestClient, fields: dict[str, str], **headers: str) -> Response:
    """What the SDK does even when it sends no file."""
    return client.post("/v1/videos", files={key: (None, value) for key, value in fields.items()}, headers=headers)


def test_a_prompt_becomes_a_video_of_the_asked_size_and_length(client: TestClient, worker: Worker, tmp_path) -> None:
    made = as_multipart(client, {"prompt": "a red ball", "seconds": "1.5", "size": "80x48", "seed": "7"}).json()
    assert (made["object"], made["status"], made["progress"]) == ("video", "queued", 0)
    assert (made["seconds"], made["size"], made["seed"], made["fps"]) == ("1.5", "80x48", 7, 8.0)
    assert worker.run_one()
    done = client.get(f"/v1/videos/{made['id']}").json()
    assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
    assert (done["model_version"], done["weights_digest"]) == ("1", "digest-1")
    assert done["completed_at"] >= done["created_at"]
    content = client.get(f"/v1/videos/{made['id']}/content")
    assert content.headers["content-type"] == "video/mp4"
    (tmp_path / "got.mp4").write_bytes(content.content)
    assert read_frames(tmp_path / "got.mp4").shape == (12, 48, 80, 3)


def test_json_and_multipart_mean_the_same(client: TestClient) -> None:
    fields = {"prompt": "p", "seconds": "2", "size": "64x64", "seed": "3", "guidance_scale": "1.5"}
    form = as_multipart(client, fields).json()
    json_body = {"prompt": "p", "seconds": 2, "size": "64x64", "seed": 3, "guidance_scale": 1.5}
    json = client.post("/v1/videos", json=json_body).json()
    urlencoded = client.post("/v1/videos", data=fields).json()
    own = {"id", "created_at"}
    for other in (json, urlencoded):
        assert {k: v for k, v in form.items() if k not in own} == {k: v for k, v in other.items() if k not in own}


def test_what_is_not_said_is_the_models_own(client: TestClient) -> None:
    made = client.post("/v1/videos", json={"prompt": "p"}).json()
    assert (made["model"], made["seconds"], made["size"]) == ("skyloom", "2", "64x64")
    assert (made["num_inference_steps"], made["guidance_scale"], made["fps"]) == (3, 2.5, 8.0)
    other = client.post("/v1/videos", json={"prompt": "p"}).json()
    assert made["seed"] != other["seed"]


def test_the_same_seed_gives_the_same_pictures(packets, client: TestClient, worker: Worker) -> None:
    contents = []
    for seed in (5, 5, 6):
        made = client.post("/v1/videos", json={"prompt": "p", "seed": seed}).json()
        worker.run_one()
        contents.append(packets(client.get(f"/v1/videos/{made['id']}/content").content))
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize(
    ("variant", "kind", "size"), [("thumbnail", "WEBP", (64, 64)), ("spritesheet", "JPEG", (256, 256))]
)
def test_pictures_of_a_video(client: TestClient, worker: Worker, variant: str, kind: str, size) -> None:
    made = client.post("/v1/videos", json={"prompt": "p"}).json()
    worker.run_one()
    picture = Image.open(io.BytesIO(client.get(f"/v1/videos/{made['id']}/content?variant={variant}").content))
    assert (picture.format, picture.size) == (kind, size)


def test_content_comes_in_ranges(client: TestClient, worker: Worker) -> None:
    made = client.post("/v1/videos", json={"prompt": "p"}).json()
    worker.run_one()
    address = f"/v1/videos/{made['id']}/content"
    whole = client.get(address)
    middle = client.get(address, headers={"Range": "bytes=10-19", "If-Range": whole.headers["etag"]})
    assert middle.status_code == 206
    assert middle.content == whole.content[10:20]
    beyond = client.get(address, headers={"Range": "bytes=99999999-"})
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"].endswith(f"*/{len(whole.content)}")


def test_pages_follow_each_other(client: TestClient) -> None:
    made = [client.post("/v1/videos", json={"prompt": "p"}).json()["id"] for _ in range(5)]
    first = client.get("/v1/videos?limit=3").json()
    assert [video["id"] for video in first["data"]] == made[:1:-1]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert (first["first_id"], first["last_id"]) == (made[4], made[2])
    rest = client.get(f"/v1/videos?limit=3&after={first['last_id']}").json()
    assert ([video["id"] for video in rest["data"]], rest["has_more"]) == (made[1::-1], False)
    assert [video["id"] for video in client.get("/v1/videos?order=asc").json()["data"]] == made


def test_a_deleted_video_is_gone_with_its_files(client: TestClient, worker: Worker, config) -> None:
    made = client.post("/v1/videos", json={"prompt": "p"}).json()
    worker.run_one()
    assert list(config.storage.rglob("video.mp4"))
    assert client.delete(f"/v1/videos/{made['id']}").json() == {
        "id": made["id"],
        "object": "video.deleted",
        "deleted": True,
    }
    assert not list(config.storage.rglob("*.mp4"))
    for reply in (client.get(f"/v1/videos/{made['id']}"), client.delete(f"/v1/videos/{made['id']}")):
        assert reply.status_code == 404


def test_a_pending_reply_says_when_to_ask_again(client: TestClient, worker: Worker) -> None:
    reply = client.post("/v1/videos", json={"prompt": "p"})
    address = f"/v1/videos/{reply.json()['id']}"
    assert 250 <= int(reply.headers["openai-poll-after-ms"]) <= 10_000
    assert "openai-poll-after-ms" in client.get(address).headers
    worker.run_one()
    assert "openai-poll-after-ms" not in client.get(address).headers


def test_a_pending_video_says_its_place_and_its_time(client: TestClient, worker: Worker, painter) -> None:
    addresses = [f"/v1/videos/{client.post('/v1/videos', json={'prompt': 'p'}).json()['id']}" for _ in range(2)]
    waiting = [client.get(address).json() for address in addresses]
    assert [(video["queue_position"], video["wait_s"]) for video in waiting] == [(0, None), (1, None)]
    seen: list[dict[str, object]] = []
    painter.on_step = lambda step: seen.append(client.get(addresses[1]).json())
    while worker.run_one():
        pass
    assert seen[0]["status"] == "in_progress"  # both in one batch
    assert seen[0]["queue_position"] is None
    third = client.get(f"/v1/videos/{client.post('/v1/videos', json={'prompt': 'p'}).json()['id']}").json()
    assert (third["queue_position"], third["wait_s"] is not None) == (0, True)
    done = client.get(addresses[1]).json()
    assert (done["queue_position"], done["wait_s"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "size", "seconds"),
    [
        ({"width": 48, "height": 32}, "48x32", "2"),
        ({"num_frames": 8}, "64x64", "1"),
        ({"num_frames": 12, "width": 32, "height": 48}, "32x48", "1.5"),
    ],
)
def test_frames_and_pixels_as_other_servers_take_them(client: TestClient, fields, size: str, seconds: str) -> None:
    for path in ("", "/loops"):
        made = client.post(f"/v1/videos{path}", json={"prompt": "p"} | fields).json()
        assert (made["size"], made["seconds"]) == (size, seconds)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"width": 48}, "width and height together"),
        ({"num_frames": 8, "seconds": "1"}, "seconds or num_frames, not both"),
        ({"width": 48, "height": 32, "size": "48x32"}, "not both"),
    ],
)
def test_a_shape_said_twice_or_by_half_is_refused(client: TestClient, fields, said: str) -> None:
    reply = client.post("/v1/videos", json={"prompt": "p"} | fields)
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]
    assert "None" not in reply.json()["error"]["message"]


def test_a_repeated_post_makes_one_video(client: TestClient) -> None:
    fields = {"prompt": "p", "seed": "1"}
    first = as_multipart(client, fields).json()["id"]
    assert as_multipart(client, fields, **{"x-stainless-retry-count": "1"}).json()["id"] == first
    keyed = [as_multipart(client, fields, **{"Idempotency-Key": "k"}).json()["id"] for _ in range(2)]
    assert keyed[0] == keyed[1] != first
    clash = as_multipart(client, {"prompt": "q"}, **{"Idempotency-Key": "k"})
    assert (clash.status_code, clash.json()["error"]["code"]) == (422, "idempotency_key_reused")


def test_models_and_health(client: TestClient) -> None:
    card = client.get("/v1/models").json()["data"][0]
    assert (card["id"], card["object"], card["facts"]["version"]) == ("skyloom", "model", "1")
    assert client.get("/v1/models/skyloom").json() == card
    assert client.get("/healthz").json() == {"status": "ok", "model": "skyloom", "version": "1", "queued": 0}


def test_a_full_queue_takes_no_more(client: TestClient, config, jobs: JobTable) -> None:
    tight = config.model_copy(update={"max_queued_jobs": 2})
    client.app.state.backend = client.app.state.backend._replace(config=tight)
    replies = [client.post("/v1/videos", json={"prompt": "p"}) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert replies[2].headers["retry-after"] == "30"
    assert jobs.num_waiting() == 2

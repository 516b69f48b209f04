"""Videos from videos, through the API and a real tiny model: what comes back, what is kept, what is refused."""

import base64
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import c2pa
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from data.video import read_frames, write_mp4
from model.tiny import save_tiny_pipeline
from serving.config import ServeConfig
from serving.loader import load_model
from serving.store.jobs import JobTable
from serving.trust.provenance import Verdict, inspect
from serving.worker import Worker

Post = Callable[..., dict[str, Any]]
FEW = {"num_inference_steps": 2, "seed": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    save_tiny_pipeline(path)
    return path


@pytest.fixture
def worker(config: ServeConfig, jobs: JobTable, shelf, folder: Path) -> Iterator[Worker]:
    """The real loading code on a tiny model; its version says no digest, as any folder is on the shelf."""
    made = Worker(
        config, name="tester", jobs=jobs, registry=shelf,
        load=lambda model, _: load_model(model._replace(weights_digest=""), folder),
    )  # fmt: skip
    made.follow_aliases()
    yield made
    made.stop()


@pytest.fixture
def post(client: TestClient, worker: Worker) -> Post:
    """Asks for a video, makes it, and returns it as it is then."""

    def ask(path: str, fields: dict[str, Any], **encoding: Any) -> dict[str, Any]:
        body = encoding or {"json": fields | FEW}
        if encoding:
            body = {"data": fields | FEW} | encoding
        reply = client.post(f"/v1/videos{path}", **body)
        assert reply.status_code == 200, reply.text
        assert worker.run_one()
        return client.get(f"/v1/videos/{reply.json()['id']}").json()

    return ask


@pytest.fixture
def made(post: Post) -> dict[str, Any]:
    """A finished video of one second."""
    return post("", {"prompt": "a red ball falls", "seconds": "1", "size": "48x32"})


def frames_of(client: TestClient, video: dict[str, Any], tmp_path: Path) -> np.ndarray:
    """The decoded file of a finished video."""
    assert video["status"] == "completed", video
    path = tmp_path / f"{video['id']}.mp4"
    path.write_bytes(client.get(f"/v1/videos/{video['id']}/content").content)
    return read_frames(path)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(one.astype(float) - other).mean(), 1e-9)))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A stranger's video: another size and rate, 13 frames at 10 frames/s."""
    levels = np.linspace(20, 220, 96)
    frames = np.broadcast_to(levels[None, None, :, None], (13, 96, 96, 3)).astype(np.uint8)
    write_mp4(tmp_path / "film.mp4", frames, 10)
    return tmp_path / "film.mp4"


def test_a_remix_names_its_source_and_keeps_its_size(post: Post, made: dict[str, Any]) -> None:
    remixed = post(f"/{made['id']}/remix", {"prompt": "a blue ball falls"})
    assert remixed["status"] == "completed"
    assert remixed["remixed_from_video_id"] == made["id"]
    assert (remixed["size"], remixed["seconds"]) == (made["size"], made["seconds"])


def test_a_changed_video_names_what_it_was_made_from(
    post: Post, client: TestClient, made: dict[str, Any], film: Path, config: ServeConfig, tmp_path: Path
) -> None:
    """A job's own video is an ingredient with its claims; an upload, whose origin nobody knows, by its digest."""
    authority, path = (config.identity / "authority.pem").read_bytes(), tmp_path / "got.mp4"

    def told(video: dict[str, Any]) -> tuple[Verdict, str]:
        path.write_bytes(client.get(f"/v1/videos/{video['id']}/content").content)
        return inspect(path, authority), c2pa.Reader.try_create(path).json()

    verdict, text = told(post(f"/{made['id']}/remix", {"prompt": "a blue ball falls"}))
    assert (verdict.state, verdict.ingredients) == ("Trusted", [made["id"]])
    assert "digitalsourcetype/trainedAlgorithmicMedia" in text
    both = {"video": {"id": made["id"]}, "second_video": {"id": made["id"]}}
    verdict, _ = told(post("/joins", both | {"prompt": "p", "seconds": "0.5"}))
    assert (verdict.state, verdict.ingredients) == ("Trusted", [made["id"]] * 2)
    verdict, text = told(post("/edits", {"prompt": "a blue ball"}, files={"video": film.read_bytes()}))
    digest = hashlib.sha256(film.read_bytes()).hexdigest()
    assert (verdict.state, verdict.generation["uploads"]) == ("Trusted", [digest])
    assert verdict.ingredients == ["upload: video"]
    assert f"urn:sha256:{digest}" in text
    assert "digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in text


def test_what_came_from_an_upload_is_never_called_a_models_own(
    post: Post, client: TestClient, made: dict[str, Any], film: Path, tmp_path: Path
) -> None:
    def kind(video: dict[str, Any]) -> str:
        path = tmp_path / "got.mp4"
        path.write_bytes(client.get(f"/v1/videos/{video['id']}/content").content)
        manifest = c2pa.Reader.try_create(path).get_active_manifest()
        (actions,) = [entry["data"] for entry in manifest["assertions"] if entry["label"].startswith("c2pa.actions")]
        (kinds,) = {action["digitalSourceType"] for action in actions["actions"] if "digitalSourceType" in action}
        return kinds.rpartition("/")[2]

    edited = post("/edits", {"prompt": "a blue ball"}, files={"video": film.read_bytes()})
    again = post(f"/{edited['id']}/remix", {"prompt": "a red ball"})
    joined = {"video": {"id": again["id"]}, "second_video": {"id": again["id"]}, "prompt": "p", "seconds": "0.5"}
    for video in (edited, again, post("/joins", joined)):
        assert kind(video) == "compositeWithTrainedAlgorithmicMedia"
    assert kind(post(f"/{made['id']}/remix", {"prompt": "a blue ball"})) == "trainedAlgorithmicMedia"


def test_an_upload_is_edited_in_the_nearest_size(post: Post, client: TestClient, film: Path, tmp_path: Path) -> None:
    edited = post("/edits", {"prompt": "a blue ball"}, files={"video": ("any.name", film.read_bytes(), "text/plain")})
    assert (edited["size"], edited["seconds"]) == ("64x64", "1.25")
    assert frames_of(client, edited, tmp_path).shape == (10, 64, 64, 3)


def test_an_id_in_a_bracket_field_beside_an_empty_part_is_taken(post: Post, made: dict[str, Any]) -> None:
    files = {"video": ("upload", b"", "application/octet-stream")}
    edited = post("/edits", {"prompt": "p", "video[id]": made["id"]}, files=files)
    assert edited["remixed_from_video_id"] == made["id"]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_an_extension_keeps_what_is_there(
    post: Post, client: TestClient, config: ServeConfig, film: Path, tmp_path: Path, direction: str
) -> None:
    fields = {"prompt": "p", "seconds": "0.5", "direction": direction}
    longer = post("/extensions", fields, files={"video": film.read_bytes()})
    assert longer["seconds"] == "1.75"
    (kept,) = config.uploads.glob("*.npy")
    frames = frames_of(client, longer, tmp_path)
    assert len(frames) == 14
    assert psnr(frames[:10] if direction == "forward" else frames[4:], np.load(kept)) > 40


def test_an_extension_of_a_finished_video_is_longer_by_what_was_asked(post: Post, made: dict[str, Any]) -> None:
    longer = post("/extensions", {"prompt": "p", "seconds": "0.5", "video": {"id": made["id"]}})
    assert (longer["status"], longer["seconds"], longer["remixed_from_video_id"]) == ("completed", "1.5", made["id"])


def test_a_picture_is_the_first_frame(post: Post, client: TestClient, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (90, 60), (200, 40, 40)).save(buffer, format="PNG")
    asked = {"prompt": "p", "seconds": "1", "size": "48x32"}
    by_file = post("", asked, files={"input_reference": ("upload", buffer.getvalue())})
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    by_url = post("", asked | {"input_reference": {"image_url": url}})
    for video in (by_file, by_url):
        frames = frames_of(client, video, tmp_path)
        assert frames.shape == (8, 32, 48, 3)
        assert np.abs(frames[0].reshape(-1, 3).mean(axis=0) - (200, 40, 40)).max() < 6


def test_a_join_keeps_both_ends(
    post: Post, client: TestClient, config: ServeConfig, film: Path, tmp_path: Path
) -> None:
    files = {"video": film.read_bytes(), "second_video": film.read_bytes()}
    joined = post("/joins", {"prompt": "p", "seconds": "0.5"}, files=files)
    frames = frames_of(client, joined, tmp_path)
    kept, *_ = config.uploads.glob("*.npy")
    assert len(frames) == 10 + 4 + 10
    assert psnr(frames[:10], np.load(kept)) > 40
    assert psnr(frames[14:], np.load(kept)) > 40


def test_the_longest_storyboard_fits_a_form(client: TestClient, worker: Worker) -> None:
    cards = [("cards[][prompt]", "a red ball"), ("cards[][seconds]", "0.5")] * 32
    kind = {"content-type": "application/x-www-form-urlencoded"}
    reply = client.post("/v1/videos/storyboards", content=urlencode([*cards, ("size", "32x32")]), headers=kind)
    assert (reply.status_code, reply.json()["seconds"]) == (200, "16"), reply.text


def test_blends_loops_and_storyboards(post: Post, client: TestClient, made: dict[str, Any], tmp_path: Path) -> None:
    first = post("", {"prompt": "a red ball", "seconds": "2", "size": "48x32"})
    other = post("", {"prompt": "a blue cube", "seconds": "1.5", "size": "32x32"})
    pair = {"video": {"id": first["id"]}, "second_video": {"id": other["id"]}}
    texts = {"prompt": "a red ball", "second_prompt": "a blue cube"}
    blended = post("/blends", pair | texts)
    assert frames_of(client, blended, tmp_path).shape == (12, 32, 48, 3)
    refused = client.post("/v1/videos/blends", json=pair | texts | {"second_video": {"id": made["id"]}})
    assert "give more than 8 frames" in refused.json()["error"]["message"]
    looped = post("/loops", {"prompt": "p", "seconds": "2", "size": "32x32"})
    assert frames_of(client, looped, tmp_path).shape == (16, 32, 32, 3)
    cards = [{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": "0.5"}]
    told = post("/storyboards", {"cards": cards, "size": "32x32"})
    assert (told["seconds"], told["prompt"]) == ("1.5", "a; b")
    assert len(frames_of(client, told, tmp_path)) == 12


def test_a_long_video_follows_a_prompt_for_each_part(post: Post, client: TestClient, tmp_path: Path) -> None:
    def board(second: str) -> np.ndarray:
        cards = [{"prompt": "a red ball", "seconds": "6"}, {"prompt": second, "seconds": "10"}]
        video = post("/storyboards", {"cards": cards, "size": "48x32"})
        assert video["seconds"] == "16"
        return frames_of(client, video, tmp_path)

    one, other = board("a blue cube"), board("a green cone")
    assert len(one) == 128
    assert psnr(one[:40], other[:40]) > psnr(one[48:], other[48:])
    assert not np.array_equal(one[48:], other[48:])


def test_a_card_begins_with_its_picture(post: Post, client: TestClient, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (90, 60), (200, 40, 40)).save(buffer, format="PNG")
    picture = {"image_url": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()}
    cards = [{"prompt": "a", "seconds": "1"}, {"prompt": "b", "seconds": "1", "image": picture}]
    form = {"cards[][prompt]": "b", "cards[][seconds]": "1", "size": "48x32"}
    told = post("/storyboards", {"cards": cards, "size": "48x32"})
    as_file = post("/storyboards", form, files={"cards[][image]": buffer.getvalue()})
    frames, alone = frames_of(client, told, tmp_path), frames_of(client, as_file, tmp_path)
    for first in (frames[8], alone[0]):
        assert np.abs(first.reshape(-1, 3).mean(axis=0) - (200, 40, 40)).max() < 6
    assert np.abs(frames[7].reshape(-1, 3).mean(axis=0) - (200, 40, 40)).max() > 20
    cards[1]["image"] = {"image_url": "https://elsewhere.example/a.png"}
    refused = client.post("/v1/videos/storyboards", json={"cards": cards, "size": "48x32"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "cards[1][image]")


def as_url(path: Path) -> str:
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize("way", ["id", "video_url", "file"])
def test_a_card_begins_with_its_clip(
    post: Post, client: TestClient, made: dict[str, Any], film: Path, config: ServeConfig, tmp_path: Path, way: str
) -> None:
    """A finished video, a `data:` URL or a file of a form; signed with what is known of its origin."""
    if way == "file":
        fields = {
            "cards[0][prompt]": "a",
            "cards[0][seconds]": "0.5",
            "cards[1][prompt]": "b",
            "cards[1][seconds]": "2",
        }
        told = post("/storyboards", fields | {"size": "48x32"}, files={"cards[1][video]": film.read_bytes()})
    else:
        video = {"id": made["id"]} if way == "id" else {"video_url": as_url(film)}
        cards = [{"prompt": "a", "seconds": "0.5"}, {"prompt": "b", "seconds": "2", "video": video}]
        told = post("/storyboards", {"cards": cards, "size": "48x32"})
    assert told["seconds"] == "2.5"
    frames = frames_of(client, told, tmp_path)
    authority, path = (config.identity / "authority.pem").read_bytes(), tmp_path / f"{told['id']}.mp4"
    verdict, text = inspect(path, authority), c2pa.Reader.try_create(path).json()
    assert verdict.state == "Trusted"
    if way == "id":
        assert psnr(frames[4:12], frames_of(client, made, tmp_path)) > 25, "encoding noise anew costs this much"
        assert (verdict.ingredients, told["remixed_from_video_id"]) == ([made["id"]], made["id"])
    else:
        (kept,) = config.uploads.glob("*.npy")
        assert psnr(frames[4:14], np.load(kept)) > 40
        assert verdict.generation["uploads"] == [hashlib.sha256(film.read_bytes()).hexdigest()]
        assert verdict.ingredients == ["upload: card-1"]
        assert "digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in text


def test_what_cannot_begin_a_card_is_refused(client: TestClient, made: dict[str, Any], film: Path) -> None:
    picture = {"image_url": "data:image/png;base64,"}
    clip = {"id": made["id"]}
    for card, param, code, status in (
        ({"seconds": "0.5", "video": clip}, "cards[0][seconds]", "invalid_value", 400),
        ({"seconds": "1", "video": {"video_url": as_url(film)}}, "cards[0][seconds]", "invalid_value", 400),
        ({"seconds": "2", "video": clip, "image": picture}, "cards[0]", "invalid_value", 400),
        ({"seconds": "2", "video": {"id": "video_none"}}, "video_id", "not_found", 404),
        ({"seconds": "2", "video": {}}, "cards[0][video][id]", "missing_required_parameter", 400),
        ({"seconds": "2", "video": "text"}, "cards[0][video]", "invalid_type", 400),
        ({"seconds": "2", "video": {"video_url": "https://elsewhere.example/a.mp4"}}, "cards[0][video]", None, 400),
        (
            {"seconds": "2", "video": {"video_url": "data:video/mp4;base64,AAAA"}},
            "cards[0][video]",
            "invalid_file",
            400,
        ),
        ({"seconds": "2", "image": {"image_url": as_url(film)}}, "cards[0][image]", "invalid_file", 400),
        ({"seconds": "2", "image": 3}, "cards[0][image]", "invalid_type", 400),
    ):
        reply = client.post("/v1/videos/storyboards", json={"cards": [card | {"prompt": "p"}], "size": "48x32"})
        error = reply.json()["error"]
        wanted = (status, param, code or "unsupported_parameter")
        assert (reply.status_code, error["param"], error["code"]) == wanted, (card, error)


def test_an_edit_takes_a_video_as_text(post: Post, film: Path) -> None:
    edited = post("/edits", {"prompt": "a blue ball", "video": {"video_url": as_url(film)}})
    assert (edited["status"], edited["size"], edited["seconds"]) == ("completed", "64x64", "1.25")


CARDS = [
    {"cards": '[{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": "0.5"}]'},
    {"cards[0][prompt]": "a", "cards[0][seconds]": "1", "cards[1][prompt]": "b", "cards[1][seconds]": "0.5"},
    {"cards[][prompt]": ["a", "b"], "cards[][seconds]": ["1", "0.5"]},
]


@pytest.mark.parametrize("fields", CARDS, ids=["json", "numbered", "repeated"])
@pytest.mark.parametrize("kind", ["multipart", "urlencoded"])
def test_cards_in_a_form(client: TestClient, worker: Worker, fields: dict[str, Any], kind: str) -> None:
    pairs = [(name, value) for name, each in fields.items() for value in ([each] if isinstance(each, str) else each)]
    if len(pairs) > len(fields):  # as the SDK writes a list of objects: item by item
        pairs = [pairs[0], pairs[2], pairs[1], pairs[3]]
    pairs.append(("size", "32x32"))
    if kind == "multipart":
        reply = client.post("/v1/videos/storyboards", files=[(name, (None, value)) for name, value in pairs])
    else:
        body = urlencode(pairs)
        kinds = {"content-type": "application/x-www-form-urlencoded"}
        reply = client.post("/v1/videos/storyboards", content=body, headers=kinds)
    assert reply.status_code == 200, reply.text
    assert (reply.json()["prompt"], reply.json()["seconds"]) == ("a; b", "1.5")


def test_a_large_picture_in_a_bracket_field(client: TestClient, worker: Worker) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    Image.fromarray(noise).save(buffer, format="PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert len(url) > 400_000
    fields = {"prompt": (None, "p"), "size": (None, "48x32"), "input_reference[image_url]": (None, url)}
    reply = client.post("/v1/videos", files=fields)
    assert reply.status_code == 200, reply.text


def test_a_character_in_a_form(client: TestClient, worker: Worker, made: dict[str, Any]) -> None:
    created = client.post("/v1/videos/characters", json={"name": "Rollo", "video": {"id": made["id"]}}).json()["id"]
    for name, value in (("characters[]", created), ("characters", f'["{created}"]'), ("characters[0]", created)):
        reply = client.post("/v1/videos", files={"prompt": (None, "it jumps"), name: (None, value)})
        assert (reply.status_code, reply.json()["size"]) == (200, "48x32"), reply.text


def test_a_character_outlives_its_video(
    client: TestClient, post: Post, worker: Worker, made: dict[str, Any], tmp_path: Path
) -> None:
    created = client.post("/v1/videos/characters", json={"name": "Rollo", "video": {"id": made["id"]}}).json()
    assert client.get(f"/v1/videos/characters/{created['id']}").json() == created
    assert created["name"] == "Rollo"
    client.delete(f"/v1/videos/{made['id']}")
    shown = post("", {"prompt": "it jumps", "seconds": "1", "characters": [created["id"]]})
    assert shown["size"] == "48x32"
    assert len(frames_of(client, shown, tmp_path)) == 8
    refused = client.post("/v1/videos", json={"prompt": "p", "size": "64x64", "characters": [created["id"]]})
    assert refused.json()["error"]["param"] == "size"


def test_a_source_that_was_deleted_meanwhile_fails_the_job(client: TestClient, worker: Worker, made) -> None:
    queued = client.post(f"/v1/videos/{made['id']}/remix", json={"prompt": "p"}).json()
    client.delete(f"/v1/videos/{made['id']}")
    worker.run_one()
    failed = client.get(f"/v1/videos/{queued['id']}").json()
    assert failed["status"] == "failed"
    assert "deleted" in failed["error"]["message"]


def test_a_repeated_upload_is_the_same_job(client: TestClient, film: Path) -> None:
    def send(count: str) -> str:
        return client.post(
            "/v1/videos/edits", data={"prompt": "p"}, files={"video": film.read_bytes()},
            headers={"x-stainless-retry-count": count},
        ).json()["id"]  # fmt: skip

    assert send("0") == send("1") != send("0")


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({}, 400, "missing_required_parameter", "video"),
        ({"video": "text"}, 400, "invalid_type", "video"),
        ({"video": {"id": "video_none"}}, 404, "not_found", "video_id"),
    ],
)
def test_what_names_no_video_is_refused(client: TestClient, fields, status: int, code: str, param: str) -> None:
    reply = client.post("/v1/videos/edits", json={"prompt": "p"} | fields)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, param)


def test_a_result_past_the_largest_size_is_refused(client: TestClient, made: dict[str, Any]) -> None:
    asked = {"prompt": "p", "seconds": "341", "video": {"id": made["id"]}}
    error = client.post("/v1/videos/extensions", json=asked).json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "seconds")
    assert "at most" in error["message"]


def test_an_unfinished_video_is_no_source_yet(client: TestClient, worker: Worker) -> None:
    queued = client.post("/v1/videos", json={"prompt": "p"}).json()
    reply = client.post(f"/v1/videos/{queued['id']}/remix", json={"prompt": "p"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "video_not_ready")


@pytest.mark.parametrize(
    "content", [b"text that is no film", b"\x89PNG\r\n\x1a\nbroken", b"\0\0\0\x20ftypisom" + bytes(64)]
)
def test_a_file_that_is_no_video_is_refused(client: TestClient, content: bytes, config: ServeConfig) -> None:
    reply = client.post("/v1/videos/edits", data={"prompt": "p"}, files={"video": ("film.mp4", content)})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "invalid_file", "video")
    assert str(config.storage) not in error["message"]
    assert not list(config.uploads.glob("*"))


@pytest.mark.parametrize("reference", [{"image_url": "http://127.0.0.1/a.png"}, {"file_id": "file_1"}])
def test_nothing_is_fetched(client: TestClient, reference: dict[str, str]) -> None:
    reply = client.post("/v1/videos", json={"prompt": "p", "input_reference": reference})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "input_reference")

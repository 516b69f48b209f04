"""Content rules: what is refused before it is queued and after it is made, and what must not be."""

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from data.video import read_frames, write_mp4
from serving.config import ServeConfig
from serving.store.jobs import JobTable
from serving.trust.mark import marked
from serving.trust.moderation import ModerationError, Moderator, match, read_rules
from serving.worker import Worker

RULES = read_rules("# a comment\nbad: blue murder\nworse: gore  # another\n")
A_VIDEO = {"prompt": "a red ball", "seconds": "1", "size": "48x32"}


@pytest.mark.parametrize(
    "text",
    [
        "blue murder",
        "some BLUE   Murder, please",
        "blue-murder",
        "blu\u0301e mu\u200brder",
        "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in "blue murder"),  # of full width
        "b l u e murder",
        "blu3 murd3r",
        "blue\nmurder",
        "g0re",
        "g.o.r.e",
        "g_o_r_e",
    ],
)
def test_rules_see_through_disguises(text: str) -> None:
    assert match(text, RULES)


@pytest.mark.parametrize(
    "text",
    [
        "a blue ball murders nobody",
        "a category of gorehounds",
        "the gorge",
        "bluemurder inc",
        "a red ball",
        "",
        "_" * 4000 + "ab",
        "a_" * 2000 + "ab",
    ],
)
def test_rules_match_whole_words_only(text: str) -> None:
    assert match(text, RULES) is None


def test_the_rules_that_come_with_us_refuse_no_ordinary_prompt(config: ServeConfig) -> None:
    things = ["ball", "cube", "cone", "cylinder", "dog in the snow", "bare tree", "child on a swing", "sculpture"]
    Moderator(config).check_texts(f"a {size} {thing}, the camera pans right" for size in "ab" for thing in things)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", A_VIDEO | {"prompt": "hardcore porn"}),
        ("/loops", {"prompt": "a naked child"}),
        ("/storyboards", {"cards": [{"prompt": "a ball", "seconds": "1"}, {"prompt": "gore", "seconds": "1"}]}),
    ],
)
def test_a_refused_prompt_makes_no_job(client: TestClient, worker: Worker, path: str, body: dict) -> None:
    reply = client.post(f"/v1/videos{path}", json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "moderation_blocked")
    assert client.get("/v1/videos").json()["data"] == []


def test_an_operators_rules_take_the_place_of_ours(config: ServeConfig, tmp_path) -> None:
    path = tmp_path / "rules.txt"
    path.write_text("house: wombat\n")
    own = Moderator(config.model_copy(update={"word_rules": path}))
    own.check_texts(["porn"])
    with pytest.raises(ModerationError, match="house"):
        own.check_texts(["a Wombat"])


def test_refused_frames_leave_no_file(config: ServeConfig, client: TestClient, hire, jobs: JobTable) -> None:
    class Strict:
        def score_images(self, images: list) -> np.ndarray:
            return np.array([0.1] * (len(images) - 1) + [0.9])

    worker = hire(config.model_copy(update={"frame_check": "nsfw"}), jobs)
    worker._moderator.__dict__["_classifier"] = Strict()
    video = client.post("/v1/videos", json=A_VIDEO).json()
    assert worker.run_one()
    video = client.get(f"/v1/videos/{video['id']}").json()
    assert (video["status"], video["error"]["code"]) == ("failed", "moderation_blocked")
    assert not list(config.storage.rglob("*.mp4"))


@pytest.mark.parametrize(("num_frames", "looks"), [(1, 1), (3, 3), (8, 4), (32, 4), (33, 5), (480, 60)])
def test_a_frame_of_each_second_is_looked_at_with_the_first_and_the_last(
    config: ServeConfig, num_frames: int, looks: int
) -> None:
    seen: list[int] = []

    class Curious:
        def score_images(self, images: list) -> np.ndarray:
            seen.extend(image.getpixel((0, 0))[0] for image in images)
            return np.zeros(len(images))

    moderator = Moderator(config.model_copy(update={"frame_check": "nsfw"}))
    moderator.__dict__["_classifier"] = Curious()
    frames = np.broadcast_to(np.arange(num_frames).astype(np.uint8)[:, None, None, None], (num_frames, 8, 8, 3))
    moderator.check_frames(np.ascontiguousarray(frames), 8)
    assert (len(seen), seen[0], seen[-1]) == (looks, 0, (num_frames - 1) % 256)


def test_a_refused_upload_is_not_worked_on(
    config: ServeConfig, client: TestClient, hire, jobs: JobTable, painter, tmp_path
) -> None:
    class Strict:
        def score_images(self, images: list) -> np.ndarray:
            return np.full(len(images), 0.9)

    worker = hire(config.model_copy(update={"frame_check": "nsfw"}), jobs)
    worker._moderator.__dict__["_classifier"] = Strict()
    write_mp4(tmp_path / "film.mp4", np.zeros((8, 32, 48, 3), np.uint8), 8)
    made = client.post("/v1/videos/edits", data={"prompt": "p"}, files={"video": (tmp_path / "film.mp4").read_bytes()})
    assert worker.run_one()
    video = client.get(f"/v1/videos/{made.json()['id']}").json()
    assert (video["status"], video["error"]["code"]) == ("failed", "moderation_blocked")
    assert painter.prompts == []


def test_what_an_edit_departs_from_is_checked_too(client: TestClient, worker: Worker) -> None:
    made = client.post("/v1/videos", json=A_VIDEO).json()
    worker.run_one()
    edit = {"prompt": "a ball", "source_prompt": "porn", "video": {"id": made["id"]}}
    reply = client.post("/v1/videos/edits", json=edit)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "moderation_blocked")
    assert client.post("/v1/videos", json=A_VIDEO | {"negative_prompt": "porn"}).status_code == 200


@pytest.mark.parametrize(("scale", "status"), [(0, 400), (0.9, 400), (1, 200), (3, 200)])
def test_a_negative_prompt_is_checked_where_the_video_is_led_towards_it(
    client: TestClient, worker: Worker, scale: float, status: int
) -> None:
    reply = client.post("/v1/videos", json=A_VIDEO | {"negative_prompt": "porn", "guidance_scale": scale})
    assert reply.status_code == status


def test_the_real_classifier_lets_a_plain_picture_pass(config: ServeConfig) -> None:
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    frames[:, 20:40, 20:40] = (200, 30, 30)
    real = Moderator(config.model_copy(update={"frame_check": "nsfw"}))
    real.check_frames(frames, 8)
    with pytest.raises(ModerationError):  # the scores are its own: with no tolerance at all nothing passes
        Moderator(config.model_copy(update={"frame_check": "nsfw", "frame_threshold": 1e-9})).check_frames(frames, 8)


@pytest.mark.parametrize("shade", [0, 40, 128, 220, 255])
def test_a_mark_is_seen_in_the_corner_and_nowhere_else(shade: int) -> None:
    frames = np.full((2, 64, 96, 3), shade, np.uint8)
    done = marked(frames, "AI")
    assert marked(frames, "") is frames
    assert np.abs(done[:, 44:, 64:].astype(int) - shade).max(axis=(1, 2)).min() > 50
    assert (done[:, :44] == shade).all()
    assert (done[:, :, :64] == shade).all()


def test_a_served_video_bears_the_mark(
    config: ServeConfig, client: TestClient, hire, jobs: JobTable, tmp_path: Path
) -> None:
    worker, corners = hire(config.model_copy(update={"visible_mark": "AI"}), jobs), {}
    corner = np.zeros((64, 96, 1), bool)
    corner[44:, 64:] = True  # the rest of the painter's pictures is of one colour
    made = client.post("/v1/videos", json={"prompt": "a ball", "seconds": "1", "size": "96x64"}).json()
    assert worker.run_one()
    for variant in ("video", "thumbnail"):
        path = tmp_path / variant
        path.write_bytes(client.get(f"/v1/videos/{made['id']}/content", params={"variant": variant}).content)
        frames = read_frames(path) if variant == "video" else np.asarray(Image.open(path).convert("RGB"))[None]
        inside, outside = (frames.std((1, 2), where=where).max(-1) for where in (corner, ~corner))
        corners[variant] = float(inside.min()), float(outside.max())
    assert all(inside > 5 and outside < 1 for inside, outside in corners.values()), corners

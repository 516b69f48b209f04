"""Hostile requests: names that climb out of folders, addresses to fetch, bodies without end, files made to hurt."""

import base64
import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import anyio
import av
import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient

from data.video import write_mp4
from serving.api.app import create_app
from serving.api.intake import LIMITS
from serving.config import ServeConfig
from serving.worker import Worker

CLIMBS = ["../", "..\\", "%2e%2e%2f", "..%2f", "%252e%252e%252f", "....//", "..;/", "\u2025/", "/./../", "..\0/"]
TARGETS = ["etc/passwd", "jobs.db", "identity/key.pem", "../jobs.db", "files/identity/key.pem"]
NAMES = [climb * depth + target for climb in CLIMBS for depth in (1, 3, 8) for target in TARGETS]
NAMES += [f"/{target}" for target in TARGETS] + [f"C:\\{target}" for target in TARGETS]
NAMES += [f"video_x{name}" for name in NAMES[:50]]
SECONDS_EACH = 2.0


def files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_name_leads_out_of_its_folder(
    client: TestClient, worker: Worker, config: ServeConfig, tmp_path: Path
) -> None:
    """S5: in ids, variants, model names and file names."""
    assert len(NAMES) >= 200
    own = client.post("/v1/videos", json={"prompt": "p"}).json()["id"]
    assert worker.run_one()
    before = files_below(tmp_path)
    for name in NAMES:
        quoted = quote(name, safe="%")
        for path in (
            f"/v1/videos/{quoted}",
            f"/v1/videos/{quoted}/content",
            f"/v1/videos/{own}/content?variant={quoted}",
            f"/v1/models/{quoted}",
            f"/v1/videos/characters/{quoted}",
        ):
            reply = client.get(path)
            assert reply.status_code in (400, 404), (path, reply.status_code)
            assert b"PRIVATE KEY" not in reply.content
        upload = client.post(
            "/v1/videos/edits", data={"prompt": "p"}, files={"video": (name, b"no video", "video/mp4")}
        )
        assert upload.status_code == 400
    assert files_below(tmp_path) - before <= {Path("serve/files/uploads")}


class Canary:
    """A port that nobody may connect to."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.visits = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                self._socket.accept()[0].close()
            except OSError:
                return
            self.visits += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    made = Canary()
    yield made
    time.sleep(0.05)
    made.close()


def test_no_reference_is_fetched_whatever_its_form(client: TestClient, worker: Worker, canary: Canary) -> None:
    """S4: as a picture or a model by address; webhooks and the registry have tests of their own."""
    hosts = ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"]
    hosts += ["0.0.0.0", "user@127.0.0.1", "127.0.0.1#@a.org", "127.0.0.1.", "127.0.0.1%2f", "[::]"]
    forms = [f"{scheme}://{host}:{canary.port}/x" for scheme in ("http", "https", "ftp") for host in hosts]
    forms += ["file:///etc/passwd", f"gopher://127.0.0.1:{canary.port}/_x", "jar:file:///x", "//127.0.0.1/x", "data:x"]
    assert len(forms) >= 40
    for form in forms:
        reply = client.post("/v1/videos", json={"prompt": "p", "input_reference": {"image_url": form}})
        assert reply.status_code == 400, form
        for named in (form, f"models:/{form}", f"runs:/{form}"):
            reply = client.post("/v1/videos", json={"prompt": "p", "model": named})
            assert (reply.status_code, reply.json()["error"]["code"]) == (400, "model_not_found")
    assert canary.visits == 0


def png(width: int, height: int) -> bytes:
    """A well-formed picture of one bit a pixel, all black: small as a file, whatever it is when decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def mp4(tmp_path: Path, *, frames: int = 2, side: int = 64, fps: float = 8) -> bytes:
    path = tmp_path / "made.mp4"
    write_mp4(path, np.zeros((frames, side, side, 3), np.uint8), fps)
    return path.read_bytes()


def bombs(tmp_path: Path) -> list[tuple[str, bytes]]:
    """Small files that say they are huge: (field, content)."""
    sides = [4097, 5000, 8192, 12_000, 16_384, 20_000, 30_000, 50_000]
    pictures = [png(side, side) for side in sides] + [png(10**6, 64), png(64, 10**6)]
    whole = mp4(tmp_path)
    lies = []
    for box in (b"mvhd", b"mdhd", b"tkhd", b"stsz", b"stts", b"stsc", b"stco", b"avc1"):
        place = whole.index(box)
        for offset in (4, 8, 12, 16, 20):
            changed = bytearray(whole)
            changed[place + offset : place + offset + 4] = b"\xff\xff\xff\xff"
            lies.append(bytes(changed))
    odd = [encoded(tmp_path, "h264", 10**6), encoded(tmp_path, "h264", Fraction(1, 36_000))]
    odd.append(encoded(tmp_path, "mpeg4", 8, num_streams=1000))
    return [("image", picture) for picture in pictures] + [("video", video) for video in odd + lies]


def encoded(tmp_path: Path, codec: str, rate: int | Fraction, *, num_streams: int = 1) -> bytes:
    """A video of two frames at any rate; of many streams all but the first are empty."""
    path = tmp_path / "odd.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=rate) for _ in range(num_streams)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for frame in (av.VideoFrame(64, 64, "yuv420p"), av.VideoFrame(64, 64, "yuv420p"), None):
            container.mux(streams[0].encode(frame))
    return path.read_bytes()


class Watch:
    """The most memory that a child of the decoding helper ever had, while it is entered."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            for helper in psutil.Process().children():
                with suppress(psutil.NoSuchProcess):
                    if "data.sandbox_child" in helper.cmdline():
                        sizes = [child.memory_info().rss for child in helper.children()]
                        self.peak_bytes = max([self.peak_bytes, *sizes])


def playlists(port: int) -> list[bytes]:
    """Texts that name other files or addresses."""
    address, inside = f"http://127.0.0.1:{port}/x.ts", "file:///etc/passwd"
    shapes = [
        "#EXTM3U\n#EXTINF:1,\n{}\n",
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:1,\nx\n',
        "ffconcat version 1.0\nfile '{}'\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>{}</BaseURL></Period></MPD>',
        "concat:{}|{}",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\na={}\n",
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}"/></svg>',
        "RIFF....WEBP{}",
        "\x89PNG\r\n\x1a\n{}",
        "[playlist]\nFile1={}\n",
        '<asx><ref href="{}"/></asx>',
        "%PDF-1.4 {}",
        "#!MVG push graphic-context image over 0,0 0,0 '{}'",
    ]
    texts = [shape.format(where, where).encode() for shape in shapes for where in (address, inside)]
    return texts + [b"\x00\x00\x00\x18ftypmp42" + text for text in texts]


def flips(tmp_path: Path, number: int) -> list[bytes]:
    """A video with a byte changed, each time another."""
    whole, draw = mp4(tmp_path, frames=8), np.random.default_rng(5)
    changed = []
    for place in draw.integers(len(whole), size=number):
        content = bytearray(whole)
        content[place] ^= int(draw.integers(1, 256))
        changed.append(bytes(content))
    return changed


def post_file(client: TestClient, field: str, content: bytes) -> int:
    """The status of a request with the file; it must come in time."""
    began = time.monotonic()
    if field == "image":
        address = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        reply = client.post("/v1/videos", json={"prompt": "p", "input_reference": {"image_url": address}})
    else:
        files = {"video": ("x.mp4", io.BytesIO(content), "video/mp4")}
        reply = client.post("/v1/videos/edits", data={"prompt": "p"}, files=files)
    took = time.monotonic() - began
    assert reply.status_code in (200, 400), reply.text
    if reply.status_code == 400:
        assert reply.json()["error"]["code"] in ("invalid_file", "invalid_value")
    return reply.status_code if took < 5 * SECONDS_EACH else 0  # the machine's own hiccups aside


def test_hostile_files_harm_nobody(client: TestClient, worker: Worker, canary: Canary, tmp_path: Path) -> None:
    """S3: 53 bombs, 52 playlists, 200 changed bytes; each answered in time, nothing opened or called."""
    client.post("/v1/videos/edits", data={"prompt": "p"}, files={"video": ("x", mp4(tmp_path), "video/mp4")})  # warm
    with Watch() as watch:
        heavy = [post_file(client, field, content) for field, content in bombs(tmp_path)]
    assert 0 < watch.peak_bytes < 512 * 2**20
    assert len(heavy) >= 50
    assert 0 not in heavy
    assert heavy[:10] == [400] * 10  # the pictures that are too large, each of them
    texts = [post_file(client, "video", text) for text in playlists(canary.port)]
    texts += [post_file(client, "image", text) for text in playlists(canary.port)[:10]]
    assert texts == [400] * len(texts)
    assert 0 not in [post_file(client, "video", content) for content in flips(tmp_path, 200)]
    assert post_file(client, "video", mp4(tmp_path, frames=LIMITS.max_frames + 2, side=16, fps=50_000)) == 400
    assert client.post("/v1/videos", json={"prompt": "p"}).status_code == 200
    assert canary.visits == 0


def test_a_body_without_end_is_cut_off(config: ServeConfig, worker: Worker) -> None:
    """S8: no length is declared, and the sender never stops; no more is taken than the limit and one piece."""
    limit, piece, taken, said = config.max_body_bytes, 65_536, 0, []

    async def receive() -> dict[str, Any]:  # httpx would read the whole body before it asks
        nonlocal taken
        taken += piece
        return {"type": "http.request", "body": b"x" * piece, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "query_string": b"", "headers": headers}
    anyio.run(create_app(config), scope, receive, send)
    assert said[0]["status"] == 413
    assert taken <= limit + piece


@pytest.mark.parametrize(
    "body",
    [
        {"files": [("video", (f"{n}.mp4", b"x", "video/mp4")) for n in range(1000)]},
        {"data": {f"field{n}": "x" for n in range(10_000)}},
        {"data": {"prompt": "x" * 2_000_000}},
        {"files": {"prompt": (None, "x" * 2_000_000)}},
        {"files": [("video", (None, "x")) for _ in range(10_000)]},
        {"files": {"prompt": (None, "x" * 100_000_000)}},
    ],
    ids=["files", "fields", "long field", "long part", "parts", "very long part"],
)
def test_too_many_or_too_large_parts_are_refused(client: TestClient, worker: Worker, body: dict) -> None:
    reply = client.post("/v1/videos/edits", **body)
    assert reply.status_code in (400, 413)
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}

"""A session of the unmodified OpenAI SDK, whatever its version: each method once; prints what came of it as JSON.

Run as `python sdk_session.py BASE_URL FILM sync|async HOOK_PORT`, where it listens for webhooks; imports nothing of
Skyloom, so any environment can run it.
"""

import asyncio
import inspect
import io
import json
import queue
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import openai

warnings.simplefilter("ignore", DeprecationWarning)
FEW = {"seed": 3, "num_inference_steps": 2}
Step = Callable[[Any, dict[str, Any]], Awaitable[None]]


async def done(value: Any) -> Any:
    """The value of a call, sync or async."""
    return await value if inspect.isawaitable(value) else value


async def collected(pages: Any) -> list[Any]:
    """All items of a listing, page after page."""
    if hasattr(pages, "__aiter__"):
        return [item async for item in pages]
    return list(await done(pages))


async def failure(kind: type[openai.APIStatusError], call: Callable[[], Any]) -> openai.APIStatusError:
    """The error of a call that must fail."""
    try:
        await done(call())
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} came")


class Hook(BaseHTTPRequestHandler):
    """Keeps what webhooks bring."""

    got: queue.Queue[tuple[dict[str, str], str]] = queue.Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.got.put((dict(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


async def create_and_poll(client: Any, kept: dict[str, Any]) -> None:
    kept["video"] = await done(
        client.videos.create_and_poll(
            prompt="a red ball", model="skyloom", seconds="1", size="48x32", extra_body=FEW, poll_interval_ms=50
        )
    )
    assert kept["video"].status == "completed", kept["video"]
    assert (kept["video"].seconds, kept["video"].size, kept["video"].progress) == ("1", "48x32", 100)


async def create(client: Any, kept: dict[str, Any]) -> None:
    made = await done(client.videos.create(prompt="a blue cube", seconds="0.5", size="16x16", extra_body=FEW))
    assert made.status in ("queued", "in_progress", "completed")
    kept["other"] = made


async def poll(client: Any, kept: dict[str, Any]) -> None:
    assert (await done(client.videos.poll(kept["other"].id, poll_interval_ms=50))).status == "completed"


async def retrieve(client: Any, kept: dict[str, Any]) -> None:
    assert (await done(client.videos.retrieve(kept["video"].id))).id == kept["video"].id


async def listing(client: Any, kept: dict[str, Any]) -> None:
    found = [video.id for video in await collected(client.videos.list(limit=1, order="asc"))]
    assert found[:2] == [kept["video"].id, kept["other"].id], found


async def download_content(client: Any, kept: dict[str, Any]) -> None:
    for variant, begin in (("video", b"ftyp"), ("thumbnail", b"WEBP"), ("spritesheet", b"\xff\xd8\xff")):
        content = await done(client.videos.download_content(kept["video"].id, variant=variant))
        data = await done(content.read())
        assert begin in data[:16], (variant, data[:16])


async def remix(client: Any, kept: dict[str, Any]) -> None:
    made = await done(client.videos.remix(kept["video"].id, prompt="a blue ball", extra_body=FEW))
    assert made.remixed_from_video_id == kept["video"].id
    assert (await done(client.videos.poll(made.id, poll_interval_ms=50))).status == "completed"


async def edit(client: Any, kept: dict[str, Any]) -> None:
    made = await done(client.videos.edit(prompt="a green ball", video=kept["film"].open("rb"), extra_body=FEW))
    assert (await done(client.videos.poll(made.id, poll_interval_ms=50))).status == "completed"


async def edit_by_id(client: Any, kept: dict[str, Any]) -> None:
    body = {"video": {"id": kept["video"].id}, **FEW}
    made = await done(client.videos.edit(prompt="a green ball", video=b"", extra_body=body))
    assert (await done(client.videos.poll(made.id, poll_interval_ms=50))).status == "completed"


async def extend(client: Any, kept: dict[str, Any]) -> None:
    body = {"video": {"id": kept["video"].id}, **FEW}
    made = await done(client.videos.extend(prompt="it rolls on", seconds="1", video=b"", extra_body=body))
    made = await done(client.videos.poll(made.id, poll_interval_ms=50))
    assert (made.status, made.seconds) == ("completed", "2")


async def create_character(client: Any, kept: dict[str, Any]) -> None:
    kept["character"] = await done(client.videos.create_character(name="Robin", video=kept["film"].open("rb")))
    assert kept["character"].name == "Robin"


async def get_character(client: Any, kept: dict[str, Any]) -> None:
    assert (await done(client.videos.get_character(kept["character"].id))).name == "Robin"


async def input_reference(client: Any, kept: dict[str, Any]) -> None:
    picture = io.BytesIO(kept["picture"].read_bytes())  # no name, no type: the bytes must tell
    made = await done(
        client.videos.create(prompt="it rolls", input_reference=picture, seconds="1", size="48x32", extra_body=FEW)
    )
    assert (await done(client.videos.poll(made.id, poll_interval_ms=50))).status == "completed"


async def delete(client: Any, kept: dict[str, Any]) -> None:
    assert (await done(client.videos.delete(kept["video"].id))).deleted
    error = await failure(openai.NotFoundError, lambda: client.videos.retrieve(kept["video"].id))
    assert (error.code, error.type) == ("not_found", "invalid_request_error"), error.body
    assert error.request_id


async def refused(client: Any, kept: dict[str, Any]) -> None:
    error = await failure(openai.BadRequestError, lambda: client.videos.create(prompt="p", seconds="1.1"))
    assert (error.code, error.param) == ("invalid_value", "seconds"), error.body


async def images(client: Any, kept: dict[str, Any]) -> None:
    made = await done(client.images.generate(prompt="a red ball", model="skyloom", n=2, size="48x32", extra_body=FEW))
    assert len(made.data) == 2
    assert all(picture.b64_json for picture in made.data)


async def models(client: Any, kept: dict[str, Any]) -> None:
    found = await collected(client.models.list())
    assert "skyloom" in [model.id for model in found]
    for model in found:
        assert (await done(client.models.retrieve(model.id))).created == model.created
    await failure(openai.NotFoundError, lambda: client.models.retrieve("skyloom@99"))


async def unwrap_webhooks(client: Any, kept: dict[str, Any]) -> None:
    body = {"name": "raw", "url": kept["hook"], "event_types": ["video.completed", "video.failed"]}
    endpoint = await done(client.post("/webhook_endpoints", body=body, cast_to=dict[str, Any]))
    made = await done(client.videos.create(prompt="a red cube", seconds="0.5", size="16x16", extra_body=FEW))
    headers, payload = await asyncio.to_thread(Hook.got.get, timeout=60)
    event = client.webhooks.unwrap(payload, headers, secret=endpoint["signing_secret"])
    assert (event.type, event.data.id, event.object) == ("video.completed", made.id, "event")
    assert event.id == headers["webhook-id"]
    try:
        client.webhooks.unwrap(payload + " ", headers, secret=endpoint["signing_secret"])
    except openai.InvalidWebhookSignatureError:
        pass
    else:
        raise AssertionError("a changed event was believed")
    await done(client.delete(f"/webhook_endpoints/{endpoint['id']}", cast_to=dict[str, Any]))


async def webhook_endpoints(client: Any, kept: dict[str, Any]) -> None:
    hooks = client.webhooks
    kinds = (await done(hooks.event_types.list())).data
    made = await done(hooks.create(name="mine", url=kept["hook"], event_types=kinds))
    assert (made.object, made.event_types, made.url) == ("webhook_endpoint", kinds, kept["hook"])
    second = await done(hooks.create(name="second", url=kept["hook"], event_types=kinds[:1]))
    assert [endpoint.id for endpoint in await collected(hooks.list(limit=1))] == [second.id, made.id]
    changed = await done(hooks.update(made.id, name="other", event_types=kinds[:1]))
    assert (changed.name, changed.event_types, changed.updated_at >= made.updated_at) == ("other", kinds[:1], True)
    kept_as = await done(hooks.retrieve(made.id))
    assert kept_as.name == "other"
    assert made.signing_secret.endswith(kept_as.signing_secret_hint[-5:])
    rotated = await done(hooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True))
    assert rotated.signing_secret != made.signing_secret
    tested = await done(hooks.test(made.id, event_type="video.failed"))
    assert (tested.status_code, tested.success, tested.webhook_endpoint_id) == (200, True, made.id)
    headers, payload = await asyncio.to_thread(Hook.got.get, timeout=60)
    for secret in (made.signing_secret, rotated.signing_secret):
        assert hooks.unwrap(payload, headers, secret=secret).type == "video.failed"
    for endpoint in (made, second):
        gone = await done(hooks.delete(endpoint.id))
        assert (gone.id, gone.deleted) == (endpoint.id, True)
    await failure(openai.NotFoundError, lambda: hooks.retrieve(made.id))


STEPS: list[Step] = [
    create_and_poll, create, poll, retrieve, listing, download_content, remix, edit, edit_by_id, extend,
    create_character, get_character, input_reference, images, models, unwrap_webhooks, refused, delete,
]  # fmt: skip


async def session(base_url: str, film: Path, mode: str, hook_port: int) -> dict[str, str]:
    """What came of each step: "ok", or how it failed."""
    kind = openai.AsyncOpenAI if mode == "async" else openai.OpenAI
    client = kind(base_url=base_url, api_key="any", max_retries=0)
    kept: dict[str, Any] = {"film": film, "picture": film.with_suffix(".png")}
    kept["hook"] = f"http://127.0.0.1:{hook_port}/hook"
    threading.Thread(target=HTTPServer(("127.0.0.1", hook_port), Hook).serve_forever, daemon=True).start()
    results = {}
    manages_endpoints = hasattr(client.webhooks, "rotate_secret")  # since 3.0
    for step in [*STEPS, webhook_endpoints] if manages_endpoints else STEPS:
        try:
            await step(client, kept)
        except Exception as error:  # the report is the point
            results[step.__name__] = f"{type(error).__name__}: {error}"
        else:
            results[step.__name__] = "ok"
    return results


if __name__ == "__main__":
    report = asyncio.run(session(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
    sys.stdout.write(json.dumps({"version": openai.__version__, "mode": sys.argv[3], "steps": report}) + "\n")

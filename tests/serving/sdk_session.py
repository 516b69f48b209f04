"""A session of the unmodified OpenAI SDK, whatever its version: each method once; prints what came of it as JSON.

Run as `python sdk_session.py BASE_URL FILM sync|async`; imports nothing of Skyloom, so any environment can run it.
"""

import asyncio
import inspect
import io
import json
import sys
import warnings
from collections.abc import Awaitable, Callable
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


STEPS: list[Step] = [
    create_and_poll, create, poll, retrieve, listing, download_content, remix, edit, edit_by_id, extend,
    create_character, get_character, input_reference, images, models, refused, delete,
]  # fmt: skip


async def session(base_url: str, film: Path, mode: str) -> dict[str, str]:
    """What came of each step: "ok", or how it failed."""
    kind = openai.AsyncOpenAI if mode == "async" else openai.OpenAI
    client = kind(base_url=base_url, api_key="any", max_retries=0)
    kept: dict[str, Any] = {"film": film, "picture": film.with_suffix(".png")}
    results = {}
    for step in STEPS:
        try:
            await step(client, kept)
        except Exception as error:  # the report is the point
            results[step.__name__] = f"{type(error).__name__}: {error}"
        else:
            results[step.__name__] = "ok"
    return results


if __name__ == "__main__":
    report = asyncio.run(session(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
    sys.stdout.write(json.dumps({"version": openai.__version__, "mode": sys.argv[3], "steps": report}) + "\n")

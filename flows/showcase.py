"""The last stage of the line: the champion is served, and an ordinary client asks it for videos."""

import json
import logging
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import cast

import av
from openai import OpenAI
from openai.types import VideoSeconds, VideoSize

from data.atomic import replacing
from data.catalog import read_table
from data.cluster import ensure_ray
from data.stage import StageResult
from data.workspace import Workspace
from flows.recipes import Recipe, ShowcaseConfig
from flows.services import free_port
from model.config import digest_of
from model.errors import StageError
from model.facts import PipelineFacts
from model.shapes import VideoShape
from model.weights import FACTS_FILE
from serving.app import start, stop
from serving.config import ServeConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """One video to ask for."""

    prompt: str
    size: str
    seconds: str


def show(config: ShowcaseConfig, recipe: Recipe, workspace: Workspace) -> StageResult:
    """Serves the champion, asks for the videos with the unmodified `openai` SDK and checks each file to its last frame.

    Raises:
        StageError: a job failed, or a file is not what was asked for.
    """
    wishes = wanted(config, workspace)
    serving = ServeConfig.of_run(
        workspace.root,
        tracking_uri=workspace.tracking_uri,
        model_name=recipe.registry.name,
        # on loopback and for a moment, beside services that all stages before used
        **recipe.serve.model_dump() | {"port": free_port(recipe.serve.port), "keys": "off", "insecure_dev": True},
    )
    fps = Fraction(str(facts_of(workspace).fps))
    ensure_ray(include_dashboard=False)
    server = start(serving)
    try:
        client = OpenAI(base_url=server.base_url, api_key="skyloom", max_retries=2)
        paths = [
            _fetch(client, recipe.registry.name, wish, workspace.videos / f"video-{n}.mp4")
            for n, wish in enumerate(wishes, 1)
        ]
    finally:
        stop(server)
    for path, wish in zip(paths, wishes, strict=True):
        check_video(path, wish, fps)
    index = workspace.videos / "videos.json"
    entries = [{"file": path.name, **vars(wish)} for path, wish in zip(paths, wishes, strict=True)]
    with replacing(index) as partial:
        partial.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
    return StageResult(
        digest=digest_of(entries),
        outputs=[*paths, index],
        took={"model": f"{recipe.registry.name}@champion", "prompts": len(wishes)},
        gave={"videos": len(paths), "server_ready_s": round(server.started_in_s, 1)},
    )


def wanted(config: ShowcaseConfig, workspace: Workspace) -> list[Wish]:
    """The videos to ask for: the recipe's prompts, else unseen prompts of the evaluation, else captions of clips.

    The sizes are the recipe's, else those that the model was trained on, in turn.
    """
    prompts = config.prompts or _evaluated_prompts(workspace) or _captions(workspace, config.num_videos)
    if not prompts:
        raise StageError("there is no prompt to ask for; give some with --showcase.prompts")
    shapes = map(VideoShape.parse, facts_of(workspace).trained_buckets)
    sizes = config.sizes or [f"{shape.width}x{shape.height}" for shape in shapes]
    spread = [prompts[n * len(prompts) // config.num_videos] for n in range(config.num_videos)]
    return [
        Wish(prompt, size, config.seconds)
        for prompt, size in zip(spread, islice(cycle(sizes), config.num_videos), strict=True)
    ]


def facts_of(workspace: Workspace) -> PipelineFacts:
    """What the workspace's model says of itself."""
    return PipelineFacts.model_validate_json((workspace.pipeline / FACTS_FILE).read_text())


def check_video(path: Path, wish: Wish, fps: Fraction) -> None:
    """Decodes the whole file.

    Raises:
        StageError: codec, size, number of frames or frame rate differ from what was asked for.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        sizes = [(frame.width, frame.height) for frame in container.decode(stream)]
        found = {
            "codec": stream.codec_context.name,
            "sizes": {f"{width}x{height}" for width, height in sizes},
            "frames": len(sizes),
            "fps": stream.average_rate,
        }
    asked = {"codec": "h264", "sizes": {wish.size}, "frames": round(Fraction(wish.seconds) * fps), "fps": fps}
    if found != asked:
        raise StageError(f"{path} is not the video that was asked for: found {found}, asked {asked}")


def _fetch(client: OpenAI, model: str, wish: Wish, path: Path) -> Path:
    log.info("asking for %s s of %s: %s", wish.seconds, wish.size, wish.prompt)
    video = client.videos.create_and_poll(
        model=model,
        prompt=wish.prompt,
        # the SDK's types name only its maker's own sizes and lengths; any text goes over the wire
        size=cast(VideoSize, wish.size),
        seconds=cast(VideoSeconds, wish.seconds),
    )
    if video.status != "completed":
        reason = video.error.message if video.error else "no reason given"
        raise StageError(f"video {video.id} ended as {video.status}: {reason}")
    with replacing(path) as partial:
        client.videos.download_content(video.id).write_to_file(partial)
    return path


def _evaluated_prompts(workspace: Workspace) -> list[str]:
    path = workspace.evaluation / "results.json"
    if not path.exists():
        return []
    return [sample["prompt"] for sample in json.loads(path.read_text()).get("samples", [])]


def _captions(workspace: Workspace, most: int) -> list[str]:
    rows = read_table(workspace.catalog / "captions.parquet")
    step = max(1, len(rows) // most)
    return [row["dense"] for row in rows[::step][:most]]

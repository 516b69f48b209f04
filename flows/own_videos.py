"""The recipe for a folder of the user's own videos."""

import re
from pathlib import Path

from data.config import TrainedCaptionerConfig
from data.sources import VIDEO_SUFFIXES, sidecar_paths
from flows.home import home
from flows.presets import demo
from flows.recipes import Recipe
from model.errors import ConfigError


def own_videos(source: Path, name: str | None = None, base: Recipe | None = None) -> Recipe:
    """The line on a folder of the user's own videos, otherwise with the settings of `base` (the demo's).

    Captions beside the videos train a captioner for the rest. Without any, the captioner that the demo trained is
    used when there is one; a recipe may name another (`--caption.backend.kind transformers`).
    """
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", source.absolute().name).strip("-._") or "videos"
    base, title = base or demo(), name or folder
    transformer = base.transformer.model_copy(update={"recipe": title, "prompt_expander": ""})
    # nobody knows the truth of these videos, so no probe can be fitted and no gate could open
    registry = base.registry.model_copy(update={"minimum": {}})
    changes = {"name": title, "source": source, "films": None, "transformer": transformer, "registry": registry}
    if base.captioner:  # free text is seldom the same word for word
        changes["captioner"] = base.captioner.model_copy(update={"minimum": {}})
    recipe = base.model_copy(update=changes)
    if _has_captions(source):
        return recipe
    demo_captioner = home() / "demo" / "captioner"
    backend = TrainedCaptionerConfig(folder=demo_captioner) if demo_captioner.exists() else TrainedCaptionerConfig()
    caption = recipe.caption.model_copy(update={"backend": backend})
    return recipe.model_copy(update={"captioner": None, "caption": caption})


def check_captions(recipe: Recipe) -> None:
    """Says before the work begins that nothing in the recipe could caption the clips.

    Raises:
        ConfigError: no captioner is trained, none is named, and no captions lie beside the videos.
    """
    backend = recipe.caption.backend
    if recipe.captioner is None and isinstance(backend, TrainedCaptionerConfig) and backend.folder is None:
        raise ConfigError(
            f"no video in {recipe.source} has captions beside it and no captioner is there; run `skyloom demo` first, "
            "name one with --caption.backend.kind (captioner, transformers, endpoint), or add NAME.txt files"
        )


def _has_captions(source: Path) -> bool:
    videos = (path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    return source.is_dir() and any(sidecar_paths(video) for video in videos)

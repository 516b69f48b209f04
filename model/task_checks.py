"""What tasks refuse: models, clips, lengths and strengths that they cannot work with."""

from model.errors import ConfigError
from model.plan import Model, Video
from model.shapes import VideoShape


def check_groups(model: Model) -> None:
    """Refuses models whose first latent frame stands for a single picture."""
    if not model.has_uniform_groups:
        raise ConfigError("this task needs latents in uniform groups of frames, which this model does not have")


def check_length(name: str, num_frames: int, least: int = 1) -> None:
    """Refuses lengths that are no length."""
    if num_frames < least:
        raise ConfigError(f"{name}={num_frames} is too short; use {least} or more")


def check_strength(strength: float) -> None:
    """Refuses strengths outside (0, 1]."""
    if not 0 < strength <= 1:
        raise ConfigError(f"strength={strength} is outside (0, 1]; 0.7 changes much, 0.4 little")


def check_clip(clip: Video | None, scene: VideoShape) -> None:
    """Refuses clips, uint8 `T H W C`, that a scene cannot begin with."""
    if clip is None:
        return
    if clip.shape[1:] != (scene.height, scene.width, 3):
        raise ConfigError(
            f"a clip of {clip.shape[1:]} (height, width, channels) cannot begin a scene of {scene.height} x "
            f"{scene.width} pixels; scale it to that size"
        )
    if not 1 <= len(clip) <= scene.num_frames:
        raise ConfigError(
            f"a clip of {len(clip)} frames cannot begin a scene of num_frames={scene.num_frames}; "
            "cut the clip, or make the scene longer"
        )

"""A visible mark burnt into every frame, for operators who want one."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEAST_PX = 7
OPACITY = 200


def marked(frames: np.ndarray, text: str) -> np.ndarray:
    """Frames (uint8 T H W C) with the text in the lower right corner, a twentieth of their height."""
    if not text:
        return frames
    height, width = frames.shape[1:3]
    size = max(LEAST_PX, height // 20)
    margin = max(1, height // 60)
    layer = Image.new("LA", (width, height))
    ImageDraw.Draw(layer).text(
        (width - margin, height - margin),
        text,
        fill=(255, OPACITY),
        font=ImageFont.load_default(size),
        anchor="rd",
        stroke_width=max(1, size // 16),  # a dark edge, or the mark would not be seen on a light picture
        stroke_fill=(0, OPACITY),
    )
    ink, opacity = np.moveaxis(np.asarray(layer, np.float32), -1, 0)[:, None, :, :, None]
    opacity /= 255
    return (frames * (1 - opacity) + ink * opacity).round().astype(np.uint8)

"""A visible mark burnt into every frame, for operators who want one."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEAST_PX = 7


def marked(frames: np.ndarray, text: str) -> np.ndarray:
    """Frames (uint8 T H W C) with the text in the lower right corner, a twentieth of their height."""
    if not text:
        return frames
    height, width = frames.shape[1:3]
    font = ImageFont.load_default(max(LEAST_PX, height // 20))
    layer = Image.new("L", (width, height))
    margin = max(1, height // 60)
    ImageDraw.Draw(layer).text((width - margin, height - margin), text, fill=200, font=font, anchor="rd")
    opacity = np.asarray(layer, np.float32)[None, :, :, None] / 255
    return (frames * (1 - opacity) + 255 * opacity).round().astype(np.uint8)

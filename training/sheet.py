"""A sheet of samples to look at: each prompt with frames of the made video, beside frames of a real clip like it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data.atomic import replacing

FRAME_PX, GAP_PX, TEXT_PX = 128, 6, 14
NUM_FRAMES, NUM_COLUMNS = 3, 2


class Row(NamedTuple):
    """A prompt, the video that was made of it, and the real clip that is most like it; uint8 `T H W C`."""

    prompt: str
    made: np.ndarray
    real: np.ndarray


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """Write the rows as one picture (a JPEG), made frames to the left of real ones."""
    panels = [panel(row) for row in rows]
    width, height = panels[0].size
    sheet = Image.new("RGB", (NUM_COLUMNS * width, -(-len(panels) // NUM_COLUMNS) * height), "white")
    for place, picture in enumerate(panels):
        sheet.paste(picture, (place % NUM_COLUMNS * width, place // NUM_COLUMNS * height))
    with replacing(path) as partial:
        sheet.save(partial, format="JPEG", quality=88)


def panel(row: Row) -> Image.Image:
    """One prompt's frames, each fitted into a square, with the prompt below."""
    step = FRAME_PX + GAP_PX
    picture = Image.new("RGB", (2 * NUM_FRAMES * step + 3 * GAP_PX, FRAME_PX + TEXT_PX + 2 * GAP_PX), "white")
    for place, frame in enumerate([*even_pick(row.made), *even_pick(row.real)]):
        fitted = fit(frame)
        left = place * step + (2 * GAP_PX if place >= NUM_FRAMES else 0) + (FRAME_PX - fitted.width) // 2
        picture.paste(fitted, (left, (FRAME_PX - fitted.height) // 2))
    font = ImageFont.load_default(TEXT_PX - 3)
    ImageDraw.Draw(picture).text((0, FRAME_PX + 2), shortened(row.prompt, font, picture.width), fill="#444", font=font)
    return picture


def even_pick(video: np.ndarray) -> np.ndarray:
    """Frames from the beginning, the middle and the end."""
    return video[np.linspace(0, len(video) - 1, NUM_FRAMES).round().astype(int)]


def fit(frame: np.ndarray) -> Image.Image:
    """The frame scaled to the square's side, its aspect kept."""
    scale = FRAME_PX / max(frame.shape[:2])
    return Image.fromarray(frame).resize((round(frame.shape[1] * scale), round(frame.shape[0] * scale)))


def shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """As much of the text as is so wide."""
    while font.getlength(text) > width_px:
        text = text.rstrip(".…")[:-1].rstrip() + "…"
    return text

"""The sheet of samples: every prompt's frames are there, whatever their aspect and length."""

import numpy as np
from PIL import Image

from training.sheet import FRAME_PX, GAP_PX, Row, write_sheet


def clip(num_frames: int, height: int, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((num_frames, height, width, 3), colour, np.uint8)


def test_made_frames_lie_left_of_real_ones_under_one_another(tmp_path):
    red, blue = (220, 20, 20), (20, 20, 220)
    rows = [
        Row("a red ball " * 40, clip(16, 64, 64, red), clip(16, 64, 64, blue)),
        Row("short", clip(1, 96, 160, red), clip(4, 160, 96, blue)),
        Row("a third", clip(16, 64, 64, blue), clip(16, 64, 64, red)),
    ]
    write_sheet(tmp_path / "sheet.jpg", rows)
    sheet = np.asarray(Image.open(tmp_path / "sheet.jpg")).astype(int)
    height, width = sheet.shape[0] // 2, sheet.shape[1] // 2
    middle, step = FRAME_PX // 2, FRAME_PX + GAP_PX
    for row, column, left, right in ((0, 0, red, blue), (0, 1, red, blue), (1, 0, blue, red)):
        line = sheet[row * height + middle, column * width : (column + 1) * width]
        assert all(np.abs(line[place * step + middle] - left).max() < 30 for place in range(3))
        assert all(np.abs(line[place * step + middle + 2 * GAP_PX] - right).max() < 30 for place in range(3, 6))
    assert sheet[height + middle, width + middle].min() > 240, "nothing stands where no fourth row is"

"""What the starter's autoencoder loses, that pieces, bf16 and stills change little, and length no memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from data.video import mp4_writer
from flows.bench import Measurement
from flows.starter_run import starter_run
from model.autoencoder import VideoAutoencoder
from model.pipeline import SkyloomPipeline
from model.pixels import to_video
from model.shapes import VideoShape
from model.streaming import decoded, encoded
from model.tasks import Generate
from training.autoencoder import load_autoencoder, measure_reconstruction, psnr_db
from training.clips import ClipSet, is_held_out, kept_rows, load_clips
from training.config import AutoencoderTraining

PSNR_GOAL_DB = 36.0
NUM_COMPARED = 4
LONG_FRAMES, SHORT_FRAMES, PIECE_FRAMES = 3600, 64, 32
SHORT_ROLLED_FRAMES = 256
"""Of a made video that is longer than the window already."""
PIECES = ((1, 64), (2, 64), (3, 5), (5, 7), (8, 64))
"""Groups of frames at once, cells of a tile's side."""
_CHILD = """
import sys
import flows.streaming_bench
getattr(flows.streaming_bench, sys.argv[1])(sys.argv[2], int(sys.argv[3]))
print(flows.streaming_bench.own_peak_bytes())
"""


def streaming() -> dict[str, Measurement]:
    """PSNR on the clips that the starter's autoencoder never saw, and what else must not change it."""
    place = starter_run()
    network = load_autoencoder(place.autoencoder).eval()
    rows = [r for r in kept_rows(place) if is_held_out(r["clip_id"], AutoencoderTraining().validation_fraction)]
    sets = load_clips(place.root, rows)
    short, long = (peak_bytes(stream_through, place.autoencoder, num) for num in (SHORT_FRAMES, LONG_FRAMES))
    rolled, rolled_long = (peak_bytes(roll, place.pipeline, num) for num in (SHORT_ROLLED_FRAMES, LONG_FRAMES))
    return {
        **fidelity(network, sets),
        **pieces(network, sets),
        "memory": Measurement(
            what=f"peak memory of encoding and decoding {LONG_FRAMES} frames of 64x64, process and all",
            ours=round(long / 1e6, 1), unit="MB", peer=round(short / 1e6, 1), peer_name=f"{SHORT_FRAMES} frames",
            goal="at most 5 % more", holds=long <= 1.05 * short,
        ),
        "generation": Measurement(
            what=f"peak memory of making {LONG_FRAMES} frames of 64x64 and writing them, process and all",
            ours=round(rolled_long / 1e6, 1), unit="MB", peer=round(rolled / 1e6, 1),
            peer_name=f"{SHORT_ROLLED_FRAMES} frames", goal="at most 5 % more", holds=rolled_long <= 1.05 * rolled,
        ),
    }  # fmt: skip


def fidelity(network: VideoAutoencoder, sets: dict[str, ClipSet]) -> dict[str, Measurement]:
    """PSNR of clips in the machine's format, in bf16 and fp32, and of stills."""
    clips = measure_reconstruction(network, sets)
    stills = {name: ClipSet(name, each.rows, each.frames[:, :1].repeat(4, axis=1)) for name, each in sets.items()}
    still_db = measure_reconstruction(network, stills)["psnr_db"]
    half_db, full_db = (psnr_in(dtype, network, sets) for dtype in (torch.bfloat16, torch.float32))
    num = sum(len(each.frames) for each in sets.values())
    found = clips["psnr_db"]
    return {
        "psnr": Measurement(
            what=f"PSNR of the starter's autoencoder on {num} unseen clips, 4x8x8 to 16 channels (48x)",
            ours=round(found, 2), unit="dB", goal=f"at least {PSNR_GOAL_DB:g} dB", holds=found >= PSNR_GOAL_DB,
            details={"difference_psnr_db": round(clips["difference_psnr_db"], 2)},
        ),
        "bf16": Measurement(
            what=f"the same in bf16 and in fp32, {NUM_COMPARED} clips of each size", ours=round(half_db, 3), unit="dB",
            peer=round(full_db, 3), peer_name="fp32", goal="within 0.1 dB", holds=abs(half_db - full_db) <= 0.1,
        ),
        "still": Measurement(
            what="PSNR of the first frame of each as a still", ours=round(still_db, 2), unit="dB",
            peer=round(found, 2), peer_name="clips", goal="at most 1 dB less", holds=still_db >= found - 1,
        ),
    }  # fmt: skip


@torch.no_grad()
def psnr_in(dtype: torch.dtype, network: VideoAutoencoder, sets: dict[str, ClipSet]) -> float:
    """PSNR of the first clips of each size, over the mean squared error of them all, in a format of products."""
    errors: list[float] = []
    for each in sets.values():
        video = to_video(list(each.frames[:NUM_COMPARED]))
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not torch.float32):
            made = network.decode(network.encode(video).mean).float().clamp(-1, 1)
        errors += (made - video).square().mean(dim=(1, 2, 3, 4)).tolist()
    return psnr_db(float(np.mean(errors)))


@torch.no_grad()
def pieces(network: VideoAutoencoder, sets: dict[str, ClipSet]) -> dict[str, Measurement]:
    """The largest difference, fp32, between a clip at once and the same in pieces and tiles."""
    video = to_video(list(next(iter(sets.values())).frames[:2]))
    whole = network.encode(video).mean
    shown = network.decode(whole)
    differences = [0.0]
    for chunk, tile in PIECES:
        made = torch.cat(list(decoded(network, whole, chunk=chunk, tile=tile)), dim=2)
        differences.append(float((encoded(network, video, chunk=chunk, tile=tile).mean - whole).abs().max()))
        differences.append(float((made - shown).abs().max()))
    worst = max(differences)
    return {
        "pieces": Measurement(
            what=f"largest difference of pieces from the whole, fp32, {len(PIECES)} ways to cut",
            ours=worst, unit="", goal="at most 1e-5", holds=worst <= 1e-5,
        )
    }  # fmt: skip


def peak_bytes(work: Callable[[str, int], None], folder: Path, num_frames: int) -> int:
    """The most memory that a process of its own needs for this work on a folder of weights and so many frames."""
    command = [sys.executable, "-c", _CHILD, work.__name__, str(folder), str(num_frames)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def own_peak_bytes() -> int:
    """The most memory that this program held; `ru_maxrss` would count that of the process which started it too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return 1024 * int(peak)


@torch.no_grad()
def stream_through(folder: str, num_frames: int) -> None:
    """Encode frames as they come, keep the latents alone, and decode them piece by piece."""
    network = VideoAutoencoder.from_pretrained(folder, use_safetensors=True).eval()
    latents = torch.cat([encoded(network, piece).mean for piece in noise_video(num_frames)], dim=2)
    for _ in decoded(network, latents):
        pass


def roll(folder: str, num_frames: int) -> None:
    """Make a video window by window and write it as it comes, with as few steps as can be."""
    pipeline = SkyloomPipeline.from_pretrained(folder)
    task = Generate("a red ball", VideoShape(num_frames, 64, 64))
    with TemporaryDirectory() as out, mp4_writer(Path(out) / "long.mp4", pipeline.fps) as write:
        for frames in pipeline.pieces(task, num_steps=1):
            write(frames)


def noise_video(num_frames: int, side: int = 64) -> Iterator[torch.Tensor]:
    """Pieces of a video that is made as it is read."""
    for _ in range(0, num_frames, PIECE_FRAMES):
        yield torch.rand(1, 3, PIECE_FRAMES, side, side) * 2 - 1

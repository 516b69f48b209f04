"""The video autoencoder against those of diffusers: equal compression, equal minutes on the demo's clips, one run."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_magvit import AutoencoderKLMagvit
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor, nn

from flows.bench import Measurement
from flows.home import workspace
from model.autoencoder import INITIAL_LOGVAR, Posterior
from model.pixels import to_video
from model.precision import autocast, compute_dtype
from training.autoencoder import MUON_PARTS, make_autoencoder, psnr_db, reconstruction_loss
from training.clips import is_held_out, kept_rows, load_clips
from training.config import AutoencoderTraining, Schedule
from training.optim import make_optimizers, set_rates, update

MINUTES = 3.0
BATCH_SIZE, NUM_HELD_OUT = 16, 64
FORMAT = str(compute_dtype()).removeprefix("torch.")


@dataclass(frozen=True)
class Rival:
    """A network with its own names for the same things. `num_frames` is the shortest clip of three latent frames."""

    name: str
    network: nn.Module
    encode: Callable[[Tensor], Posterior]
    decode: Callable[[Tensor], Tensor]
    num_frames: int
    muon_in: tuple[str, ...]

    @property
    def num_parameters(self) -> int:
        """Weights in all."""
        return sum(parameter.numel() for parameter in self.network.parameters())


def autoencoder() -> dict[str, Measurement]:
    """PSNR on unseen clips after equal minutes, and frames a second of encoding and decoding."""
    training, held_out = demo_clips()
    rivals = [ours(), wan(), magvit()]
    num_steps = {rival.name: train(rival, training) for rival in rivals}
    scores = {rival.name: held_out_psnr(rival, held_out) for rival in rivals}
    rates = frame_rates(rivals, held_out)
    rows = {}
    for rival in rivals[1:]:
        gain = scores["ours"] - scores[rival.name]
        rows[f"psnr {rival.name}"] = Measurement(
            what=f"PSNR on {len(held_out)} unseen clips after {MINUTES:g} minutes of training each "
            f"({num_steps['ours']} and {num_steps[rival.name]} steps), 4x8x8, 16 channels",
            ours=round(scores["ours"], 2), unit="dB", peer=round(scores[rival.name], 2),
            peer_name=type(rival.network).__name__, goal="at least 2 dB more", holds=gain >= 2,
            details={"our_parameters": rivals[0].num_parameters, "their_parameters": rival.num_parameters},
        )  # fmt: skip
        for kind in ("encode", "decode"):
            mine, theirs = rates["ours"][kind], rates[rival.name][kind]
            rows[f"{kind} {rival.name}"] = Measurement(
                what=f"{kind} 64x64 clips in {FORMAT}, batch {BATCH_SIZE}", ours=round(mine, 1), unit="frames/s",
                peer=round(theirs, 1), peer_name=type(rival.network).__name__, goal="at least 3.0x",
                holds=mine >= 3 * theirs,
            )  # fmt: skip
    return rows


def ours() -> Rival:
    """Ours, as the demo trains it."""
    network = make_autoencoder(AutoencoderTraining())
    return Rival("ours", network, network.encode, network.decode, 8, MUON_PARTS)


def wan() -> Rival:
    """Wan's causal autoencoder at our compression and size."""
    torch.manual_seed(0)
    network = AutoencoderKLWan(base_dim=24, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=1)
    return of_diffusers("Wan", network, ("resnets.",))


def magvit() -> Rival:
    """EasyAnimate's Magvit autoencoder at our compression, as near to our size as its blocks allow."""
    torch.manual_seed(0)
    network = AutoencoderKLMagvit(block_out_channels=(32, 64, 128, 128), layers_per_block=1)
    return of_diffusers("Magvit", network, ("convs.",))


def of_diffusers(name: str, network: Any, muon_in: tuple[str, ...]) -> Rival:
    """A rival by the method names that diffusers' video autoencoders share; it begins with as narrow a posterior."""

    def encode(video: Tensor) -> Posterior:
        posterior = network.encode(video).latent_dist
        return Posterior(posterior.mean.float(), posterior.logvar.float() + INITIAL_LOGVAR)

    return Rival(name, network, encode, lambda latents: network.decode(latents).sample, 9, muon_in)


def demo_clips() -> tuple[np.ndarray, np.ndarray]:
    """The square clips of the last `make demo`, uint8 `N T H W C`: those to train on, and some that are held out."""
    place = workspace(None, "demo")
    rows = [row for row in kept_rows(place) if row["bucket"] == "64x64x16"]
    chosen = load_clips(place.root, rows)["64x64x16"]
    unseen = np.array([is_held_out(row["clip_id"], 0.1) for row in chosen.rows])
    return chosen.frames[~unseen], chosen.frames[unseen][:NUM_HELD_OUT]


def train(rival: Rival, training: np.ndarray) -> int:
    """`MINUTES` of training, with rate decay by the clock; gives how many steps they were."""
    config = AutoencoderTraining()
    schedule = Schedule(num_steps=1000, batch_size=BATCH_SIZE, lr=2e-3)
    optimizers = make_optimizers(rival.network, schedule, muon_lr=config.muon_lr, weight_decay=0, muon_in=rival.muon_in)
    draw, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    began, num_steps = time.monotonic(), 0
    while (share := (time.monotonic() - began) / (60 * MINUTES)) < 1:
        set_rates(optimizers, schedule.rate(int(share * schedule.num_steps)))
        video = crops(training, rival.num_frames, draw)
        with autocast():
            posterior = rival.encode(video)
            decoded = rival.decode(posterior.sample(generator))
        loss, _ = reconstruction_loss(decoded.float(), video, posterior, config)
        update(optimizers, loss, rival.network, max_grad_norm=1.0)
        num_steps += 1
    return num_steps


def crops(clips: np.ndarray, num_frames: int, draw: np.random.Generator) -> Tensor:
    """Random runs of frames of random clips."""
    rows = draw.integers(len(clips), size=BATCH_SIZE)
    starts = draw.integers(clips.shape[1] - num_frames + 1, size=BATCH_SIZE)
    return to_video([clips[row, start : start + num_frames] for row, start in zip(rows, starts, strict=True)])


@torch.no_grad()
def held_out_psnr(rival: Rival, clips: np.ndarray) -> float:
    """PSNR over the first frames of each clip that the rival takes at once."""
    errors = []
    for start in range(0, len(clips), BATCH_SIZE):
        video = to_video(list(clips[start : start + BATCH_SIZE, : rival.num_frames]))
        with autocast():
            decoded = rival.decode(rival.encode(video).mean).float().clamp(-1, 1)
        errors += (decoded - video).square().mean(dim=(1, 2, 3, 4)).tolist()
    return psnr_db(float(np.mean(errors)))


@torch.no_grad()
def frame_rates(rivals: Sequence[Rival], clips: np.ndarray, rounds: int = 7) -> dict[str, dict[str, float]]:
    """Median frames a second of each rival, all in turn, so that noise hits them alike."""
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for rival in rivals:
            video = to_video(list(clips[:BATCH_SIZE, : rival.num_frames]))
            with autocast():
                began = time.perf_counter()
                latents = rival.encode(video).mean
                encoded = time.perf_counter()
                rival.decode(latents)
                times.setdefault((rival.name, "encode"), []).append(encoded - began)
                times.setdefault((rival.name, "decode"), []).append(time.perf_counter() - encoded)
    return {
        rival.name: {
            kind: BATCH_SIZE * rival.num_frames / statistics.median(times[rival.name, kind])
            for kind in ("encode", "decode")
        }
        for rival in rivals
    }

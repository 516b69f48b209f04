"""Fits the video autoencoder to the clips of a catalog, resumably, and writes it as a diffusers folder."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from data.stage import StageResult
from data.workspace import Workspace
from model.autoencoder import Posterior, VideoAutoencoder
from model.errors import ConfigError
from model.pixels import to_video
from model.precision import autocast, device_named
from model.weights import weights_digest
from training.clips import ClipSet, clips_digest, is_held_out, kept_rows, load_clips
from training.config import AutoencoderTraining
from training.latents import halved, masked, noisy, roughness
from training.loop import Learner, drawn_ahead, run_schedule
from training.optim import make_optimizers, update
from training.warm_start import load_start, start_digest

MUON_PARTS = ("_frame.", "_merge.", "_fine.", "_down.", "_coarse.", "_up.", "_part.")


def train_autoencoder(config: AutoencoderTraining, workspace: Workspace) -> StageResult:
    """Train on the kept clips (less a validation part), measure on that part, and write the weights."""
    rows = kept_rows(workspace)
    held_out = [row for row in rows if is_held_out(row["clip_id"], config.validation_fraction)] or rows[:1]
    held_out_ids = {row["clip_id"] for row in held_out} if len(rows) > 1 else set()
    # Rows are sorted by id, and ids are hashes: the first are as good as any.
    seen = [row for row in rows if row["clip_id"] not in held_out_ids][: config.max_clips]
    training_sets = load_clips(workspace.root, seen)
    network = make_autoencoder(config)
    nn.Module.to(network, device_named(config.device))
    fit(network, config, training_sets, workspace)
    network.eval()
    if config.trains_encoder:
        measure_latents(network, training_sets)
    scores = measure_reconstruction(network, load_clips(workspace.root, held_out))
    network.save_pretrained(str(workspace.autoencoder), safe_serialization=True)
    digest = weights_digest(workspace.autoencoder)
    return StageResult(
        digest=digest,
        outputs=[workspace.autoencoder / "config.json", *workspace.autoencoder.glob("*.safetensors")],
        took={"clips": len(seen), "steps": config.schedule.num_steps} | start_digest(config.start_from, "autoencoder"),
        gave={"psnr_db": round(scores["psnr_db"], 2), "difference_psnr_db": round(scores["difference_psnr_db"], 2),
              "parameters": sum(p.numel() for p in network.parameters()), "validation_clips": len(held_out)},
    )  # fmt: skip


def make_autoencoder(config: AutoencoderTraining) -> VideoAutoencoder:
    """An autoencoder with seeded weights, or with those that the settings start from."""
    torch.manual_seed(config.schedule.seed)
    network = VideoAutoencoder(
        latent_channels=config.latent_channels,
        frame_channels=config.frame_channels,
        fine_channels=config.fine_channels,
        coarse_channels=config.coarse_channels,
        encoder_blocks=config.encoder_blocks,
        decoder_blocks=config.decoder_blocks,
    )
    load_start(network, config.start_from, "autoencoder")
    return network


def fit(network: VideoAutoencoder, config: AutoencoderTraining, sets: dict[str, ClipSet], workspace: Workspace) -> None:
    """Run the schedule from the newest checkpoint on. A step depends on its number and the seed alone."""
    schedule = config.schedule
    optimizers = make_optimizers(network, schedule, muon_lr=config.muon_lr, weight_decay=0, muon_in=MUON_PARTS)
    run_anywhere = config.model_copy(update={"device": "auto"})  # a checkpoint is as good on another device
    facts = {
        "config": run_anywhere.digest,
        "clips": clips_digest([row for name in sorted(sets) for row in sets[name].rows]),
    }

    def draw(step: int) -> Tensor:
        return draw_batch(sets, config, step, network.device)

    # on a CPU a third thread would take time from the two that train
    with drawn_ahead(draw) if network.device.type != "cpu" else nullcontext(draw) as batch_of:

        def take_step(step: int) -> dict[str, float]:
            return train_step(network, optimizers, config, batch_of(step), step)

        run_schedule(Learner("autoencoder", network, optimizers), schedule, workspace, facts, take_step)


def draw_batch(
    sets: dict[str, ClipSet], config: AutoencoderTraining, step: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The crops of one step: a bucket by its share of clips, then random clips and runs of whole frame groups."""
    draw = np.random.default_rng([config.schedule.seed, step])
    names = sorted(sets)
    sizes = np.array([len(sets[name].frames) for name in names])
    frames = sets[names[draw.choice(len(names), p=sizes / sizes.sum())]].frames
    length = min(config.num_frames, frames.shape[1])
    if length % 4:
        raise ConfigError(f"num_frames={length} is not a multiple of 4; clips and crops need whole groups of 4 frames")
    count, (height, width) = config.schedule.batch_size, frames.shape[2:4]
    side = config.crop_px or max(height, width)
    rows = draw.integers(len(frames), size=count)
    starts = 4 * draw.integers((frames.shape[1] - length) // 4 + 1, size=count)
    tops = draw.integers(max(0, height - side) + 1, size=count)
    lefts = draw.integers(max(0, width - side) + 1, size=count)
    return to_video(
        [
            frames[row, start : start + length, top : top + side, left : left + side]
            for row, start, top, left in zip(rows, starts, tops, lefts, strict=True)
        ],
        device,
    )


def train_step(
    network: VideoAutoencoder,
    optimizers: dict[str, torch.optim.Optimizer],
    config: AutoencoderTraining,
    video: Tensor,
    step: int,
) -> dict[str, float]:
    """One update; returns the figures to log."""
    generator = torch.Generator(video.device).manual_seed(config.schedule.seed * 1_000_003 + step)
    is_tail = step >= (1 - config.noisy_tail) * config.schedule.num_steps
    with autocast(video.device):
        with torch.set_grad_enabled(not is_tail):
            posterior = network.encode(video)
            latents = posterior.sample(generator)
        decoded = network.decode(corrupted(latents, config, generator, is_tail=is_tail))
        regular = latents.new_zeros(()) if is_tail else regularisation(network, config, latents, video)
    loss, mse = reconstruction_loss(decoded.float(), video, posterior, config)
    update(optimizers, loss + regular, network, max_grad_norm=1.0)
    return {"loss": loss.item(), "psnr_db": psnr_db(mse.item())}


def corrupted(latents: Tensor, config: AutoencoderTraining, generator: torch.Generator, *, is_tail: bool) -> Tensor:
    """What the decoder is given: noisy latents at the end, else latents of which a share of the cells is hidden."""
    if is_tail:
        return noisy(latents, config.max_latent_noise, generator)
    return masked(latents, config.masked_cells, generator) if config.masked_cells else latents


def regularisation(network: VideoAutoencoder, config: AutoencoderTraining, latents: Tensor, video: Tensor) -> Tensor:
    """The weighted sum of what keeps latents easy to diffuse."""
    total = latents.new_zeros(())
    if config.roughness_weight:
        total = total + config.roughness_weight * roughness(latents.float())
    if config.scale_weight:
        total = total + config.scale_weight * functional.l1_loss(network.decode(halved(latents)), halved(video))
    return total


def reconstruction_loss(
    decoded: Tensor, video: Tensor, posterior: Posterior, config: AutoencoderTraining
) -> tuple[Tensor, Tensor]:
    """(the loss, the plain mean squared error): L1, squares, L1 of frame differences, and the KL to a unit normal."""
    mse = functional.mse_loss(decoded, video)
    differences = functional.l1_loss(decoded.diff(dim=2), video.diff(dim=2))
    kl = 0.5 * (posterior.mean.square() + posterior.logvar.exp() - 1 - posterior.logvar).mean()
    loss = functional.l1_loss(decoded, video) + config.mse_weight * mse
    return loss + config.difference_weight * differences + config.kl_weight * kl, mse


def psnr_db(mse: float) -> float:
    """Peak signal-to-noise ratio of a mean squared error on [-1, 1], in dB."""
    return float(10 * np.log10(4 / max(mse, 1e-12)))


@torch.no_grad()
def measure_latents(network: VideoAutoencoder, sets: dict[str, ClipSet], num_clips: int = 128) -> None:
    """Set the network's latent mean and deviation per channel from an even pick of the clips."""
    means = []
    for chosen in sets.values():
        pick = np.linspace(0, len(chosen.frames) - 1, min(num_clips, len(chosen.frames))).astype(int)
        for batch in batches(chosen.frames[pick], network.device):
            with autocast(network.device):
                means.append(network.encode(batch).mean.transpose(0, 1).flatten(1))
    values = torch.cat(means, dim=1)
    network.latent_mean.copy_(values.mean(dim=1))
    network.latent_std.copy_(values.std(dim=1).clamp_min(1e-4))


@torch.no_grad()
def measure_reconstruction(network: VideoAutoencoder, sets: dict[str, ClipSet]) -> dict[str, float]:
    """PSNR of frames and of frame differences over whole clips, each from its mean squared error over all of them."""
    errors, difference_errors = [], []
    for chosen in sets.values():
        for batch in batches(chosen.frames, network.device):
            with autocast(network.device):
                decoded = network.decode(network.encode(batch).mean).float().clamp(-1, 1)
            errors += (decoded - batch).square().mean(dim=(1, 2, 3, 4)).tolist()
            difference_errors += (decoded.diff(dim=2) - batch.diff(dim=2)).square().mean(dim=(1, 2, 3, 4)).tolist()
    return {
        "psnr_db": psnr_db(float(np.mean(errors))),
        "difference_psnr_db": psnr_db(float(np.mean(difference_errors))),
    }


def batches(frames: np.ndarray, device: torch.device | str = "cpu", size: int = 32) -> Iterator[Tensor]:
    """The clips as video batches on a device, in order."""
    for start in range(0, len(frames), size):
        yield to_video(list(frames[start : start + size]), device)


def load_autoencoder(folder: Path) -> VideoAutoencoder:
    """The trained autoencoder of a folder, ready to encode."""
    return VideoAutoencoder.from_pretrained(str(folder), use_safetensors=True).eval()

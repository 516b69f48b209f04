"""The steps of the transformer's training on one rank, in plain torch: network, data, averages, checkpoints.

Everything random at a step is drawn for the whole global batch from (seed, step), then cut by rank, so that the run is
the same on any number of ranks and after any kill.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from data.loader import LatentBatch, LatentLoader, LoaderConfig
from data.workspace import Workspace
from model.autoencoder import VideoAutoencoder
from model.diffusion import add_noise, draw_levels, velocity_loss
from model.errors import ConfigError
from model.precision import autocast
from model.transformer import SpacetimeTransformer
from model.weights import weights_digest
from training.checkpoint import (
    load_newest,
    module_tensors,
    optimizer_tensors,
    restore_module,
    restore_optimizers,
    save_checkpoint,
)
from training.config import TransformerTraining
from training.ema import Ema
from training.ema_profiles import Decay, power_function, warmed_up
from training.optim import make_optimizers, set_rates, update
from training.warm_start import load_start

MOST_SHAPES = 64


class Trainer:
    """Network, optimisers, average and data of one rank; `step` does one update.

    With several ranks, `distribute` wraps the network so that they average their gradients.
    """

    def __init__(
        self,
        config: TransformerTraining,
        workspace: Workspace,
        device: torch.device,
        *,
        rank: int = 0,
        world_size: int = 1,
        distribute: Callable[[nn.Module], nn.Module] = lambda network: network,
    ) -> None:
        if config.schedule.batch_size % world_size:
            raise ConfigError(
                f"a batch of {config.schedule.batch_size} cannot be shared out evenly to {world_size} ranks; "
                "choose schedule.batch_size or num_workers so that it can"
            )
        self.config, self.rank, self.world_size, self.device = config, rank, world_size, device
        self.checkpoints = workspace.checkpoints("transformer")
        self.autoencoder = VideoAutoencoder.from_pretrained(str(workspace.autoencoder), use_safetensors=True).eval()
        nn.Module.to(self.autoencoder, device)
        self.loader = LatentLoader(
            loader_config(config), workspace.latents, autoencoder_digest=weights_digest(workspace.autoencoder),
            rank=rank, world_size=world_size,
        )  # fmt: skip
        self.network = self._make_network()
        self.averages = {name: Ema(self.network, self._make_network(), decay) for name, decay in decays(config).items()}
        self.optimizers = make_optimizers(
            self.network, config.schedule, muon_lr=config.muon_lr, weight_decay=config.weight_decay
        )
        self.facts = {"config": config.training_digest, "dataset_id": self.loader.dataset_id}
        self.first_step = self._resume()
        if config.compile:
            # one shape for each bucket, its other sizes and its still: past the limit torch would no longer compile
            torch._dynamo.config.recompile_limit = MOST_SHAPES
            for block in self.network.blocks:
                block.compile(dynamic=False)
        self.model = distribute(self.network)
        self._batches = self.loader.batches(self.first_step, pinned=device.type == "cuda")

    def step(self, step: int) -> dict[str, Tensor]:
        """One update; returns its loss and gradient norm, which a GPU may still be at work on."""
        set_rates(self.optimizers, self.config.schedule.rate(step))
        loss = self._loss(step, next(self._batches))
        norm = update(self.optimizers, loss, self.network, self.config.max_grad_norm)
        for average in self.averages.values():
            average.update(step)
        return {"loss": loss.detach(), "grad_norm": norm.detach()}

    def _loss(self, step: int, batch: LatentBatch) -> Tensor:
        """The velocity loss of this rank's rows of the global batch."""
        seed = self.config.schedule.seed * 1_000_003 + step
        generator = torch.Generator().manual_seed(seed)
        # the large draws where they are used: a CPU takes longer for them than a GPU for the rest of the step
        own = generator if self.device.type == "cpu" else torch.Generator(self.device).manual_seed(seed)
        total, rows = len(batch) * self.world_size, slice(self.rank, None, self.world_size)
        cut = middle_square if self.config.square_crops else nn.Identity()
        mean, logvar = self._moved(cut(batch.mean)), self._moved(cut(batch.logvar))
        if self.config.short_fraction and torch.rand((), generator=generator) < self.config.short_fraction:
            frames = half_of(mean.shape[2], generator)
            mean, logvar = mean[:, :, frames], logvar[:, :, frames]
        shape = mean.shape[1:]
        posterior_noise = torch.randn(total, *shape, generator=own, device=self.device)[rows]
        noise = torch.randn(total, *shape, generator=own, device=self.device)[rows]
        levels = draw_levels(total, shape[1], self.config.patterns, generator, shift=self.config.sigma_shift)
        sigma, is_noisy = self._moved(levels.sigma[rows]), self._moved(levels.is_noisy[rows])
        has_text = (torch.rand(total, generator=generator) >= self.config.text_dropout)[rows]
        text = self._moved(batch.prompt_states), self._moved(batch.prompt_mask) & self._moved(has_text)[:, None]
        x0 = self.autoencoder.normalise(mean + posterior_noise * torch.exp(0.5 * logvar))
        with autocast(x0.device):
            predicted = self.model(add_noise(x0, noise, sigma), sigma, *text)
        # ranks are averaged, and may have drawn unequal numbers of frames
        return velocity_loss(predicted, x0, noise, is_noisy, levels.is_noisy.sum().item() / self.world_size)

    def _moved(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is to follow the step: every `checkpoint_every` steps and at the end."""
        schedule = self.config.schedule
        return (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.num_steps

    def save(self, step: int) -> None:
        """Write a checkpoint of what is there after the step."""
        tensors = module_tensors("network", self.network) | optimizer_tensors(self.optimizers)
        for name, ema in self.averages.items():
            tensors |= module_tensors(name, ema.average)
        save_checkpoint(self.checkpoints, step + 1, tensors, self.facts)

    def _make_network(self) -> SpacetimeTransformer:
        network = make_transformer(self.config, self.autoencoder.latent_channels, self.loader.prompt_dim)
        nn.Module.to(network, self.device)
        return network

    def _resume(self) -> int:
        """The first step to do: after the newest checkpoint of the same settings and data, else 0."""
        saved = load_newest(self.checkpoints, self.facts)
        if saved is None:
            return 0
        restore_module("network", self.network, saved.tensors)
        for name, ema in self.averages.items():
            restore_module(name, ema.average, saved.tensors)
        restore_optimizers(self.optimizers, saved.tensors)
        return saved.step


def decays(config: TransformerTraining) -> dict[str, Decay]:
    """The averages that are kept, by the name of their weights in a checkpoint."""
    return {"ema": warmed_up(config.ema_decay)} | {
        track_name(width): power_function(width) for width in config.ema_widths
    }


def track_name(width: float) -> str:
    """The name in a checkpoint of the average of a width."""
    return f"ema-{width:g}"


def half_of(num_frames: int, generator: torch.Generator) -> slice:
    """Half of the latent frames, neighbours, from a random one on; the only one where there is one."""
    length = max(1, num_frames // 2)
    start = int(torch.randint(num_frames - length + 1, (), generator=generator))
    return slice(start, start + length)


def middle_square(latents: Tensor) -> Tensor:
    """The middle of latents `B C T H W`, as wide as high."""
    height, width = latents.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return latents[..., top : top + side, left : left + side]


def loader_config(config: TransformerTraining) -> LoaderConfig:
    """How this training draws its batches."""
    return LoaderConfig(
        seed=config.schedule.seed, batch_size=config.schedule.batch_size, dense_probability=config.dense_fraction,
        max_prompt_tokens=config.max_text_tokens, image_fraction=config.image_fraction,
        scaled_fraction=config.scaled_fraction, cache=True,
    )  # fmt: skip


def make_transformer(config: TransformerTraining, latent_channels: int, text_dim: int) -> SpacetimeTransformer:
    """A transformer with seeded weights, or with those that the settings start from."""
    torch.manual_seed(config.schedule.seed)
    network = SpacetimeTransformer(
        latent_channels=latent_channels, patch_size=config.patch_size, dim=config.dim, num_heads=config.num_heads,
        num_blocks=config.num_blocks, num_text_blocks=config.num_text_blocks, text_dim=text_dim,
        max_text_tokens=config.max_text_tokens,
    )  # fmt: skip
    load_start(network, config.start_from, "transformer")
    return network

"""Drives tasks: hands a task's plans to the sampler and the latents back to the task. Every model does this alike."""

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from model.errors import ConfigError
from model.flow_edit import EditTexts, flow_edit, shared_words
from model.guidance import ClassifierFreeGuidance, Guidance, HistoryGuidance, ZeroStarGuidance
from model.misfit import misfit
from model.plan import Chosen, Decoder, Piece, Plan, Question, Script, Task, Video
from model.polish import Round, polish
from model.sampling import SamplingProgress, Start, noise_stream, sample, seeded_noise, sigma_schedule
from model.sampling_options import PLAIN, PolishRound, SamplingOptions
from model.shapes import LatentShape, VideoShape
from model.views import GuidedVelocity, Velocity, of_samples

PLAN_SEED_STRIDE = 1_000_003
READING_LEVEL = 0.6
"""The noise level at which whole videos tell texts apart; from 0.4 to 0.8 the answers were the same (decision 0021)."""
Result = TypeVar("Result")


class SamplingDefaults(NamedTuple):
    """How a model is sampled when nothing else is said."""

    num_steps: int
    guidance_scale: float
    sigma_shift: float
    guidance_low: float = 0.0
    moves_patches: bool = False
    polish: tuple[PolishRound, ...] = ()
    polished_cells: int = 0
    """Cells of a frame below which patches are not moved and nothing is polished: small things would be lost."""


class TaskRunner:
    """A model that can run tasks, given what is its own: latents, text and the network."""

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Channels of a latent cell."""

    @property
    @abstractmethod
    def patch_size(self) -> int:
        """Cells on each side of what the network takes for one place."""

    @property
    @abstractmethod
    def has_uniform_groups(self) -> bool:
        """Whether every latent frame stands for equally many frames, so that any of them can be given."""

    @property
    @abstractmethod
    def defaults(self) -> SamplingDefaults:
        """How it is sampled when nothing else is said."""

    @property
    @abstractmethod
    def window(self) -> int:
        """The most latent frames that the network was trained on at once."""

    @abstractmethod
    def grid(self, shape: VideoShape) -> LatentShape:
        """The latent grid of a video, or a `ConfigError`."""

    @abstractmethod
    def padded(self, video: Video) -> Video:
        """The video, its last frame held until its length is one that `encode` takes."""

    @abstractmethod
    def encode(self, clips: Sequence[Video]) -> Tensor:
        """The normalised latents of clips of equal size, uint8 `T H W C` each."""

    @abstractmethod
    def decode(self, latents: Tensor, *, is_ring: bool = False) -> list[Video]:
        """The videos of normalised latents `B C T H W`, uint8 `T H W C` each."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A decoder for one batch of videos whose latents come bit by bit."""

    @abstractmethod
    def velocity(self, scripts: Sequence[Script], negative_prompt: str) -> Velocity:
        """The network under the scripts, one per sample; scripts of several prompts are all the same one."""

    def run(
        self, task: Task, *, seeds: Sequence[int] = (0,), options: SamplingOptions | None = None
    ) -> Generator[SamplingProgress, None, list[Video]]:
        """As `stream`, but returns the whole videos, one per seed."""
        pieces: list[list[Video]] = []
        for said in self.stream(task, seeds=seeds, options=options):
            if isinstance(said, Piece):
                pieces.append(said.videos)
            else:
                yield said
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]

    def stream(
        self, task: Task, *, seeds: Sequence[int] = (0,), options: SamplingOptions | None = None
    ) -> Iterator[SamplingProgress | Piece]:
        """Yields after each denoising step of all the task's plans, and the frames of the videos as they are finished.

        Whoever wants to stop can do so then; while a question is answered there is a step 0 after each of its texts.
        There is one video per seed. Where a task is made window by window, memory does not grow with its length.

        Raises:
            ConfigError: no seed, or a task that asks for what cannot be.
        """
        options = options or SamplingOptions()
        if not seeds:
            raise ConfigError("no seed means no video; give one seed per video")
        conversation = task.run(self)
        said = next(conversation)
        while True:
            try:
                if isinstance(said, Piece):
                    yield said
                    said = next(conversation)
                elif isinstance(said, Question):
                    said = conversation.send((yield from self._answered(said, options)))
                else:
                    said = conversation.send((yield from self._sampled(said, seeds, options)))
            except StopIteration:
                return

    def _answered(self, question: Question, options: SamplingOptions) -> Generator[SamplingProgress, None, Tensor]:
        """The misfit of each text. One by one: a text takes two evaluations, a denoising step as many or more."""
        noise = seeded_noise(tuple(question.latents.shape[1:]), [0]).to(question.latents)
        found = []
        for text in question.texts:
            velocity = self.velocity([Script.of(text, 1)], "")
            found.append(misfit(velocity, question.latents, noise, READING_LEVEL).mean())
            yield SamplingProgress(0, len(self.sigmas(options)) - 1)
        return torch.stack(found)

    def _sampled(
        self, plan: Plan, seeds: Sequence[int], options: SamplingOptions
    ) -> Generator[SamplingProgress, None, Tensor]:
        """The latents of one plan; its steps count among those of all the task's plans, as if each had equally many."""
        num_steps = self.num_steps(options, plan.grid)
        own_seeds = [seed + PLAN_SEED_STRIDE * plan.index for seed in seeds]
        if plan.source_prompt is not None and plan.start is not None:
            sampler = self._edited(plan, plan.source_prompt, plan.start, own_seeds, options)
        else:
            # rounds that a user names are for every sample
            polishes = plan.polishes if options.polish is None else None
            options = options.or_else(plan.usual)
            velocity = self.velocity([plan.script] * len(seeds), options.negative_prompt)
            sampler = self.drawn(
                velocity, plan.grid, own_seeds, options,
                start=plan.start, is_ring=plan.is_ring, polishes=polishes,
            )  # fmt: skip

        def among_all(done: SamplingProgress) -> SamplingProgress:
            if plan.num_plans == 1:
                return done
            step = num_steps * done.step // done.num_steps
            return SamplingProgress(plan.index * num_steps + step, plan.num_plans * num_steps)

        return (yield from renumbered(sampler, among_all))

    def _edited(
        self, plan: Plan, source_prompt: str, start: Start, seeds: Sequence[int], options: SamplingOptions
    ) -> Generator[SamplingProgress, None, Tensor]:
        """What a start's latents show, changed from one text to another; it is not polished."""
        if options.solver != "euler":
            raise ConfigError(f"solver={options.solver!r} is not for edits from a source prompt; use euler")
        shared = shared_words(source_prompt, " ".join(plan.script.prompts))
        velocity = self.velocity([plan.script] * len(seeds), options.negative_prompt)
        source, neutral = (
            self.velocity([Script.of(text, 1)] * len(seeds), options.negative_prompt)
            for text in (source_prompt, shared)
        )
        noise = seeded_noise((self.latent_channels, *plan.grid), seeds)
        return flow_edit(
            EditTexts(velocity, source, neutral), start, noise, self.sigmas(options), self.guidances(options)
        )

    def drawn(
        self,
        velocity: Velocity,
        grid: LatentShape,
        seeds: Sequence[int],
        options: SamplingOptions,
        *,
        start: Start | None = None,
        is_ring: bool = False,
        polishes: Chosen | None = None,
    ) -> Generator[SamplingProgress, None, Tensor]:
        """Latents sampled and polished, unless their frames are small; both parts' steps count as one row.

        With `polishes` only the samples that it names are.
        """
        options = self.fitting(options, grid)
        sigmas, is_made = self.sigmas(options), start is None or bool(start.strength.any())
        rounds = self.rounds(options) if is_made else []
        num_sampled = len(sigmas) - 1
        num_steps = num_sampled + sum(each.num_predictions for each in rounds)
        turns = ring_shifts(num_steps, grid.num_frames) if is_ring else None
        noises = noise_stream((self.latent_channels, *grid), seeds)
        moves = self.defaults.moves_patches if options.moves_patches is None else options.moves_patches
        guidances = self.guidances(options)
        guided = GuidedVelocity(velocity, guidances, self.patch_size if moves else 1)
        sampler = sample(guided, next(noises), sigmas, start, solver=options.solver, shifts=turns)
        latents = yield from renumbered(sampler, lambda done: SamplingProgress(done.step, num_steps))
        is_polished = polishes(latents) if polishes is not None and rounds else None
        if is_polished is not None and not is_polished.any():
            yield SamplingProgress(num_steps, num_steps)
            return latents
        later = None if turns is None else turns[num_sampled:]
        polisher = polish(velocity, latents, noises, rounds, start, patch_size=self.patch_size, turns=later)
        polished = yield from renumbered(polisher, lambda done: SamplingProgress(num_sampled + done.step, num_steps))
        return polished if is_polished is None else torch.where(of_samples(is_polished), polished, latents)

    def fitting(self, options: SamplingOptions, grid: LatentShape) -> SamplingOptions:
        """The options for frames of this size: small ones are sampled plainly."""
        return options.or_else(PLAIN) if grid.height * grid.width < self.defaults.polished_cells else options

    def num_steps(self, options: SamplingOptions, grid: LatentShape) -> int:
        """The denoising steps of a plan that is polished wherever the options say so."""
        options = self.fitting(options, grid)
        return len(self.sigmas(options)) - 1 + sum(each.num_predictions for each in self.rounds(options))

    def sigmas(self, options: SamplingOptions) -> list[float]:
        """The noise levels of a sampling."""
        num_steps = self.defaults.num_steps if options.num_steps is None else options.num_steps
        return sigma_schedule(num_steps, self.defaults.sigma_shift)

    def guidances(self, options: SamplingOptions) -> list[Guidance]:
        """The guidances of a sampling."""
        low = self.defaults.guidance_low if options.guidance_low is None else options.guidance_low
        scale = self._scale(options)
        by_text: Guidance = (
            ZeroStarGuidance(scale)
            if options.guidance == "zero_star"
            else ClassifierFreeGuidance(scale, low, options.guidance_high)
        )
        return [by_text, by_history(options)]

    def rounds(self, options: SamplingOptions) -> list[Round]:
        """The rounds of polish, none of which is guided further than the sampling."""
        asked = self.defaults.polish if options.polish is None else options.polish
        scale = self._scale(options)
        return [
            Round(
                each.level,
                each.num_predictions,
                [ClassifierFreeGuidance(min(scale, each.guidance_scale)), by_history(options)],
            )
            for each in asked
        ]

    def _scale(self, options: SamplingOptions) -> float:
        return self.defaults.guidance_scale if options.guidance_scale is None else options.guidance_scale


def by_history(options: SamplingOptions) -> HistoryGuidance:
    """How far given frames guide: not further than they show, where nobody says."""
    return HistoryGuidance(1.0 if options.history_scale is None else options.history_scale)


def renumbered(
    steps: Generator[SamplingProgress, None, Tensor], number: Callable[[SamplingProgress], SamplingProgress]
) -> Generator[SamplingProgress, None, Tensor]:
    """The same steps, each with the number that it has among more."""
    while True:
        try:
            done = next(steps)
        except StopIteration as stop:
            return stop.value
        yield number(done)


def ring_shifts(num_steps: int, num_frames: int) -> Int[Tensor, " s"]:
    """How far a ring is turned at each step: the same for every seed, or a video would depend on its batch."""
    return torch.randint(num_frames, (num_steps,), generator=torch.Generator().manual_seed(0))


def finish(generator: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end and return its value."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value

"""A small network that reads a clip's attributes, trained on the world's truth; the judge of prompt adherence.

It sees real clips through the autoencoder half of the time: it judges content, not the autoencoder's softness.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.captioner import SIDE_PX, ClipStem, prepare
from model.precision import autocast
from training.augment import jitter, shifted
from training.config import Schedule
from training.optim import make_optimizers, set_rates, update
from training.progress import StepProgress

Attributes = Mapping[str, str]
Vocabulary = dict[str, tuple[str, ...]]
MUON_LR = 0.02
VIEW_SHIFT_PX = 4
HEADER_KEY = "skyloom"


class Probe(nn.Module):
    """One linear head per attribute over pooled clip features."""

    def __init__(self, vocabulary: Vocabulary, dim: int = 128, side_px: int = SIDE_PX) -> None:
        super().__init__()
        self.vocabulary, self.dim, self.side_px = vocabulary, dim, side_px
        self.stem = ClipStem(dim)
        self.pool = nn.Sequential(nn.Linear(dim, 2 * dim), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(4 * dim, len(values)) for name, values in vocabulary.items()})

    def features(self, video: Tensor) -> Tensor:
        """Pooled features `B D` of prepared clips: mean and maximum over places."""
        tokens = self.pool(self.stem(video))
        return torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)

    def forward(self, video: Tensor) -> dict[str, Tensor]:
        """Logits per attribute."""
        features = self.features(video)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, clips: Sequence[np.ndarray], batch_size: int = 128) -> list[dict[str, str]]:
        """The attributes that the probe sees in each clip, uint8 `T H W C` each: the mean vote of nine shifted views.

        They agree where one view errs (docs/ablations.md).
        """
        seen: list[dict[str, str]] = []
        for start in range(0, len(clips), batch_size):
            chosen = clips[start : start + batch_size]
            views = [self(view) for view in shifted(self.prepare(chosen), VIEW_SHIFT_PX)]
            votes = {name: torch.stack([view[name].log_softmax(dim=1) for view in views]).mean(0) for name in views[0]}
            picks = {name: vote.argmax(dim=1).tolist() for name, vote in votes.items()}
            seen += [{name: self.vocabulary[name][picks[name][row]] for name in picks} for row in range(len(chosen))]
        return seen

    @torch.no_grad()
    def describe(self, clips: Sequence[np.ndarray], batch_size: int = 128) -> np.ndarray:
        """The pooled features `N D` of clips, uint8 `T H W C` each."""
        batches = [clips[start : start + batch_size] for start in range(0, len(clips), batch_size)]
        return torch.cat([self.features(self.prepare(batch)) for batch in batches]).numpy()

    def prepare(self, clips: Sequence[np.ndarray]) -> Tensor:
        """Clips as this probe sees them."""
        return prepare(clips, self.side_px)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, with what they are for in the header."""
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"vocabulary": self.vocabulary, "dim": self.dim, "side_px": self.side_px}
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(weights, path, metadata={HEADER_KEY: json.dumps(facts)})

    @classmethod
    def load(cls, path: Path) -> Self:
        """The probe that `save` wrote to `path`."""
        with safe_open(path, framework="pt") as file:
            probe = cls(**json.loads(file.metadata()[HEADER_KEY]))
        probe.load_state_dict(load_file(path))
        return probe.eval()


class Lesson(NamedTuple):
    """Prepared clips and what each of them shows."""

    video: Tensor
    truth: Sequence[Attributes]


def fit_probe(probe: Probe, lessons: Sequence[Lesson], schedule: Schedule, log_path: Path) -> None:
    """Train on the lessons in turn (clips as they are, clips through the autoencoder)."""
    targets = [
        {
            name: torch.tensor([values.index(shown[name]) for shown in lesson.truth])
            for name, values in probe.vocabulary.items()
        }
        for lesson in lessons
    ]
    optimizers = make_optimizers(probe, schedule, muon_lr=MUON_LR, weight_decay=0.01, muon_in=("stem.",))
    probe.train()
    with StepProgress("probe", log_path, schedule.num_steps) as progress:
        for step in range(schedule.num_steps):
            torch.manual_seed(schedule.seed * 1_000_003 + step)
            lesson, target = lessons[step % len(lessons)], targets[step % len(lessons)]
            pick = torch.randint(len(lesson.truth), (schedule.batch_size,))
            set_rates(optimizers, schedule.rate(step))
            with autocast():
                logits = probe(jitter(lesson.video[pick]))
            losses = [nn.functional.cross_entropy(logits[name].float(), target[name][pick]) for name in target]
            loss = torch.stack(losses).sum()
            update(optimizers, loss, probe, max_grad_norm=1.0)
            progress.step(step, loss=loss.item())
    probe.eval()


def accuracy(seen: Sequence[Attributes], asked: Sequence[Attributes]) -> dict[str, float]:
    """The share of clips per attribute in which what was seen is what was asked, and `all` for all of them together."""
    names = list(asked[0])
    right = {name: float(np.mean([s[name] == a[name] for s, a in zip(seen, asked, strict=True)])) for name in names}
    together = [all(s[name] == a[name] for name in names) for s, a in zip(seen, asked, strict=True)]
    return right | {"all": float(np.mean(together))}

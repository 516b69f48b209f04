"""Videos made window by window: frame for frame what holding all latents and decoding them at the end would give."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from model import memory
from model.facts import PipelineFacts
from model.pipeline import SkyloomPipeline
from model.plan import Decoder, Piece, Plan, Script, Task, Video
from model.rolling import RENEWAL
from model.runner import finish
from model.sampling import Start
from model.sampling_options import PolishRound, SamplingOptions
from model.seams import Seam, met
from model.shapes import LatentShape, VideoShape
from model.storyboard import Card, Storyboard
from model.tasks import Animate, Extend, Feature, Generate
from model.tiny import tiny_autoencoder, tiny_transformer
from model.windows import Windows

OPTIONS = SamplingOptions(num_steps=2)
SIDE, GROUP = 32, 4


class Recorder(SkyloomPipeline):
    """Keeps the latents that it decodes bit by bit."""

    def decoder(self) -> Decoder:
        """The usual one, overheard."""
        decode = super().decoder()
        self.heard: list[Tensor] = []

        def overheard(latents: Tensor, *, is_last: bool) -> Iterator[list[Video]]:
            self.heard.append(latents)
            yield from decode(latents, is_last=is_last)

        return overheard

    def at_once(self) -> list[Video]:
        """What the latents give when they are decoded together."""
        return self.decode(torch.cat(self.heard, dim=2))


def recorder(window_frames: int) -> Recorder:
    made = Recorder(tiny_autoencoder(), tiny_transformer())
    made.facts = PipelineFacts(fps=8, trained_buckets=[f"{SIDE}x{SIDE}x{window_frames}"])
    return made


@pytest.fixture(scope="module", params=[16, 80], ids=["window of 4", "window of 20, more than a piece"])
def pipeline(request: pytest.FixtureRequest) -> Recorder:
    return recorder(request.param)


def pieces_of(pipeline: SkyloomPipeline, task: Task, seeds: list[int]) -> list[list[Video]]:
    return [said.videos for said in pipeline.stream(task, seeds=seeds, options=OPTIONS) if isinstance(said, Piece)]


def joined(pieces: list[list[Video]]) -> list[Video]:
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def clip(num_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (num_frames, SIDE, SIDE, 3), dtype=np.uint8)


def held_whole(pipeline: SkyloomPipeline, prompt: str, num_groups: int, seeds: list[int]) -> list[Video]:
    """A video longer than the window, made the plain way: all latents are held, drawn to the first, and decoded."""
    window, latents, index = pipeline.window, torch.empty(0), 0
    while index == 0 or latents.shape[2] < num_groups:
        num_seen = 0 if index == 0 else window // 2
        num_new = window if index == 0 else min(window - window // 2, num_groups - latents.shape[2])
        start = None
        if index:
            seen = latents[:, :, -num_seen:]
            unmade = torch.zeros_like(seen[:, :, :1]).repeat(1, 1, num_new, 1, 1)
            given = torch.arange(num_seen + num_new) < num_seen
            start = Start.given(torch.cat([seen, unmade], dim=2), given)
        grid = pipeline.grid(VideoShape(GROUP * (num_seen + num_new), SIDE, SIDE))
        plan = Plan(grid=grid, script=Script.of(prompt, grid.num_frames), start=start, index=index, num_plans=99)
        made = finish(pipeline._sampled(plan, seeds, OPTIONS))
        if index:
            new = made[:, :, num_seen:].split(1, dim=2)
            made = torch.cat([memory.drawn_to(frame, latents[:, :, :window]) for frame in new], dim=2)
        latents = torch.cat([latents, made], dim=2) if index else made
        index += 1
    return pipeline.decode(latents)


@pytest.mark.parametrize("seeds", [[3], [1, 3]], ids=["alone", "in a batch"])
@pytest.mark.parametrize("num_groups", [21, 33])
def test_a_long_video_is_what_holding_all_of_it_gives(
    pipeline: Recorder, num_groups: int, seeds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "STILL", float("inf"))  # what weights of random numbers make is never still,
    monkeypatch.setattr(memory, "ALIKE", 3.0)  # and nowhere alike
    task = Generate("a red ball", VideoShape(GROUP * num_groups, SIDE, SIDE))
    pieces = pieces_of(pipeline, task, seeds)
    assert len(pieces) > 2
    whole = held_whole(pipeline, "a red ball", num_groups, seeds)
    for ours, theirs in zip(joined(pieces), whole, strict=True):
        assert np.array_equal(ours, theirs)
    monkeypatch.setattr(memory, "STILL", 0.0)
    (forgetful, *_) = finish(pipeline.run(task, seeds=seeds[:1], options=OPTIONS))
    assert not np.array_equal(forgetful, whole[0])


def test_a_long_video_is_the_same_in_pieces_and_at_once(pipeline: Recorder) -> None:
    task, seeds = Generate("a red ball", VideoShape(GROUP * 33, SIDE, SIDE)), [1, 3]
    pieces = pieces_of(pipeline, task, seeds)
    for ours, theirs in zip(joined(pieces), finish(pipeline.run(task, seeds=seeds, options=OPTIONS)), strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("given", "added"), [(1, 5), (3, 70), (20, 70), (100, 90)])
def test_an_extension_is_what_decoding_all_of_it_gives(pipeline: Recorder, given: int, added: int) -> None:
    video = clip(given)
    (made,) = joined(pieces_of(pipeline, Extend(video, "x", added), [3]))
    num_kept = GROUP * min(pipeline.window // 2, max(1, given // GROUP))
    (whole,) = pipeline.at_once()
    expected = met(whole[num_kept:][:added], before=Seam(video[-1], whole[num_kept - 1]))
    assert np.array_equal(made, np.concatenate([video, expected]))
    (new,) = joined(pieces_of(pipeline, Feature(video, "x", added), [3]))
    (whole,) = pipeline.at_once()  # another video, for it is guided by its prompt
    expected = met(whole[num_kept:][:added], before=Seam(video[-1], whole[num_kept - 1]))
    assert np.array_equal(new, expected)


def test_scenes_that_begin_with_clips_are_what_decoding_all_gives(pipeline: Recorder) -> None:
    clips = [None, clip(1, 5), None, clip(6, 6), clip(1, 7)]
    lengths = [8, 4, 60, 12, 24]
    cards = tuple(Card(str(length), length, given) for length, given in zip(lengths, clips, strict=True))
    (ours,) = joined(pieces_of(pipeline, Storyboard(cards, SIDE, SIDE), [3]))
    (whole,) = pipeline.at_once()
    scenes = np.split(whole, np.cumsum(lengths)[:-1])
    for given, scene, made in zip(clips, scenes, np.split(ours, np.cumsum(lengths)[:-1]), strict=True):
        if given is None:
            assert np.array_equal(made, scene)
        else:
            num = len(given)
            assert np.array_equal(made[:num], given)
            assert np.array_equal(made[num:], met(scene[num:], before=Seam(given[-1], scene[num - 1])))


def test_a_scene_is_made_anew_after_its_cut_with_nothing_of_the_one_before_in_sight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline, plans = recorder(16), []
    sampled = pipeline._sampled
    monkeypatch.setattr(pipeline, "_sampled", lambda plan, *rest: plans.append(plan) or sampled(plan, *rest))
    finish(pipeline.run(Storyboard((Card("a", 12), Card("b", 28)), SIDE, SIDE), seeds=[3], options=OPTIONS))
    shown = [(plan.script.prompts, plan.script.prompt_of_frame) for plan in plans]
    assert shown == [
        (("a",), (0, 0, 0)),
        (("a", "b"), (0, 0, 1, 1)),
        (("b",), (0, 0, 0, 0)),
        (("b",), (0, 0, 0, 0)),  # anew
        (("b",), (0, 0, 0, 0)),
        (("b",), (0, 0, 0)),
    ]
    starts = [plan.start and plan.start.strength.tolist() for plan in plans]
    go_on = [0, 0, 1, 1]
    assert starts == [None, go_on, go_on, [pytest.approx(RENEWAL)] * 4, go_on, go_on[:3]]
    assert [(plan.index, plan.num_plans) for plan in plans] == [(index, 6) for index in range(6)]
    first, second, anew = (finish(sampled(plan, [3], OPTIONS)) for plan in plans[1:4])
    opened = torch.cat([first, second], dim=2)[:, :, [2, 3, 6, 7]]
    assert torch.equal(plans[3].start.latents, opened)
    assert torch.equal(plans[4].start.latents[:, :, :2], anew[:, :, 2:])


@pytest.mark.parametrize(
    ("size", "cut", "num_plans"), [(4, 4, 5), (4, 5, 6), (4, 9, 6), (1, 2, 11), (3, 6, 7), (20, 1, 3)]
)
def test_no_window_makes_frames_of_two_scenes(size: int, cut: int, num_plans: int) -> None:
    windows = Windows(LatentShape(10, 4, 4), size, (cut,))
    there, ends = 0, []
    while there < 10:
        there += windows.stretch(there)
        ends.append(there)
    assert cut in ends
    assert ends[-1] == 10
    assert windows.num_plans(0) == num_plans


def test_frames_come_before_the_last_window_is_begun() -> None:
    pipeline = recorder(16)
    said = list(pipeline.stream(Generate("x", VideoShape(200, SIDE, SIDE)), seeds=[0], options=OPTIONS))
    places = [place for place, one in enumerate(said) if isinstance(one, Piece)]
    assert places[0] < len(said) / 4
    lengths = [len(piece.videos[0]) for piece in said if isinstance(piece, Piece)]
    assert lengths == [32, 32, 32, 32, 32, 32, 8]


def test_a_call_gives_the_pieces_as_one() -> None:
    pipeline = recorder(16)
    task = Animate(clip(1)[0], "it rolls", 70)
    pieces = list(pipeline.pieces(task, seed=4, num_steps=2))
    assert len(pieces) > 1
    assert np.array_equal(np.concatenate(pieces), pipeline(task, seed=4, num_steps=2))


@pytest.mark.parametrize(("limit", "is_polished"), [(float("inf"), True), (0.0, False)])
def test_a_long_video_is_polished_from_end_to_end_or_nowhere(
    limit: float, is_polished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is: where the camera stands still, so that what later windows see is remembered and cannot fade."""
    pipeline, rounds = recorder(16), (PolishRound(level=0.5),)
    pipeline.facts = pipeline.facts.model_copy(update={"default_polish": rounds})
    task = Generate("x", VideoShape(48, SIDE, SIDE))
    monkeypatch.setattr(memory, "STILL", limit)
    usual, polished, plain = (
        finish(pipeline.run(task, seeds=[3], options=OPTIONS.model_copy(update={"polish": polish})))[0]
        for polish in (None, rounds, ())
    )
    assert np.array_equal(usual, polished) == is_polished
    assert np.array_equal(usual, plain) != is_polished


def test_the_first_window_beside_given_frames_is_polished_however_the_camera_moves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline, plans = recorder(16), []
    sampled = pipeline._sampled
    monkeypatch.setattr(pipeline, "_sampled", lambda plan, *rest: plans.append(plan) or sampled(plan, *rest))
    monkeypatch.setattr(memory, "STILL", 0.0)
    finish(pipeline.run(Extend(clip(8), "x", 32), seeds=[3], options=OPTIONS))
    assert plans[0].polishes is None
    assert len(plans) > 2
    assert not any(bool(plan.polishes(torch.ones(1, 1, 1, 1, 1)).any()) for plan in plans[1:])

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
from model.rolling import RENEWAL, Rolling
from model.runner import finish
from model.sampling import Start
from model.sampling_options import BESIDE_GIVEN, PolishRound, SamplingOptions
from model.seams import Seam, met
from model.shapes import LatentShape, VideoShape
from model.storyboard import Card, Storyboard
from model.tasks import Animate, Extend, Feature, Generate
from model.tiny import tiny_autoencoder, tiny_transformer
from model.windows import Windows, grouped

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


def plans_of(pipeline: SkyloomPipeline, task: Task, monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """What a task asks of the sampler while it is made."""
    plans, sampled = [], pipeline._sampled
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_sampled", lambda plan, *rest: plans.append(plan) or sampled(plan, *rest))
        finish(pipeline.run(task, seeds=[3], options=OPTIONS))
    return plans


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
    heard = torch.cat(pipeline.heard, dim=2)
    for given, begin in zip(clips, np.cumsum([0, *lengths]) // GROUP, strict=False):
        if given is not None:
            latents = pipeline.encode([grouped(given)])
            assert torch.equal(heard[:, :, begin : begin + latents.shape[2]], latents)
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
    pipeline = recorder(16)
    plans = plans_of(pipeline, Storyboard((Card("a", 12), Card("b", 28)), SIDE, SIDE), monkeypatch)
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
    first, second, anew = (finish(pipeline._sampled(plan, [3], OPTIONS)) for plan in plans[1:4])
    going_on, renewed, after = (plan.start.latents for plan in plans[2:5] if plan.start is not None)
    assert torch.equal(going_on[:, :, :2], first[:, :, 2:])
    opened = torch.cat([first, second], dim=2)[:, :, [2, 3, 6, 7]]
    assert torch.equal(renewed, opened)
    assert torch.equal(after[:, :, :2], anew[:, :, 2:])


@pytest.mark.parametrize("size", [1, 2, 3, 4, 20])
@pytest.mark.parametrize("cuts", [(1,), (4,), (5, 6), (3, 9)])
def test_each_scene_is_begun_anew_in_as_many_plans_as_were_said(size: int, cuts: tuple[int, ...]) -> None:
    total = LatentShape(10, 4, 4)
    script = Script(("a", "b", "c"), tuple(sum(place >= cut for cut in cuts) for place in range(10)))
    given = {cuts[0] + 1: torch.full((1, 16, 1, 4, 4), 7.0)}
    rolling = Rolling(Windows(total, size, cuts), script, known=given)
    plans: list[Plan] = []
    finished: list[Tensor] = []
    while not rolling.is_done:
        stretch = rolling.next_frames()
        said, begin = next(stretch), len(plans)
        try:
            while True:
                plans.append(said)
                made = torch.randn(2, 16, *said.grid)
                if said.start is not None:
                    made = torch.where((said.start.strength == 0)[:, None, None], said.start.latents, made)
                said = stretch.send(made)
        except StopIteration as stop:
            finished.append(stop.value)
        *_, last = plans[begin:]
        assert len(last.script.prompts) == 1, "what is finished saw no other scene"
        assert last.usual == BESIDE_GIVEN
    assert [plan.index for plan in plans] == list(range(len(plans)))
    assert {plan.num_plans for plan in plans} == {len(plans)}
    video = torch.cat(finished, dim=2)
    assert video.shape == (2, 16, *total)
    assert (video[:, :, cuts[0] + 1] == 7).all()
    assert not (video == 7).all(dim=(0, 1, 3, 4))[[place for place in range(10) if place not in given]].any()


@pytest.mark.parametrize(("num_frames", "is_always_polished"), [(8, True), (16, True), (20, False)])
def test_a_scene_of_one_window_is_polished_however_the_camera_moves(
    num_frames: int, is_always_polished: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = (Card("a", num_frames), Card("b", num_frames))
    plans = plans_of(recorder(16), Storyboard(cards, SIDE, SIDE), monkeypatch)
    begun = [plan for plan in plans if plan.usual == BESIDE_GIVEN and (plan.start is None or plan.start.strength.all())]
    assert [plan.polishes is None for plan in begun] == [is_always_polished] * 2


def test_a_storyboard_of_a_seed_does_not_depend_on_its_batch(pipeline: Recorder) -> None:
    cards = (Card("a", 12), Card("b", 16, clip(1)), Card("c", 8))
    together = joined(pieces_of(pipeline, Storyboard(cards, SIDE, SIDE), [1, 3]))
    (alone,) = joined(pieces_of(pipeline, Storyboard(cards, SIDE, SIDE), [3]))
    # products of two samples are rounded otherwise than those of one
    assert np.abs(together[1].astype(int) - alone).max() <= 1
    assert np.abs(together[0].astype(int) - alone).max() > 1


def test_steps_of_plain_and_polished_plans_count_as_one_row() -> None:
    pipeline = recorder(16)
    pipeline.facts = pipeline.facts.model_copy(update={"default_polish": (PolishRound(level=0.5),)})
    cards = (Card("a", 16), Card("b", 16), Card("c", 8, clip(8)))
    said = pipeline.stream(Storyboard(cards, SIDE, SIDE), seeds=[3], options=OPTIONS)
    steps = [(one.step, one.num_steps) for one in said if not isinstance(one, Piece)]
    assert {num_steps for _, num_steps in steps} == {6 * 6}, "six plans, each of two steps and a round of four"
    assert [step for step, _ in steps] == sorted(step for step, _ in steps)
    assert steps[-1] == (36, 36)


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
    monkeypatch.setattr(memory, "STILL", 0.0)
    plans = plans_of(recorder(16), Extend(clip(8), "x", 32), monkeypatch)
    assert plans[0].polishes is None
    assert len(plans) > 2
    later = [plan.polishes for plan in plans[1:] if plan.polishes is not None]
    assert len(later) == len(plans) - 1
    assert not any(bool(polishes(torch.ones(1, 1, 1, 1, 1)).any()) for polishes in later)

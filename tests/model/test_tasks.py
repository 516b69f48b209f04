"""Every task with a tiny real model: lengths, what is kept byte for byte, what differs, progress, refusals."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from model.autoencoder import VideoAutoencoder
from model.errors import ConfigError
from model.expander import AsItIs, Expander, Reading
from model.facts import PipelineFacts
from model.pipeline import SkyloomPipeline
from model.plan import Plan, Task
from model.runner import finish
from model.sampling_options import BESIDE_GIVEN, CONTINUED, PLAIN, UNSAID, SamplingOptions
from model.shapes import VideoShape
from model.storyboard import Card, Storyboard
from model.tasks import Animate, Blend, Edit, Extend, Feature, Generate, Image, Inpaint, Join, Loop
from model.tiny import tiny_autoencoder, tiny_transformer

OPTIONS = SamplingOptions(num_steps=3)
SIDE = 32


@pytest.fixture(scope="module")
def pipeline() -> SkyloomPipeline:
    made = SkyloomPipeline(tiny_autoencoder(), tiny_transformer())
    made.facts = PipelineFacts(fps=8, trained_buckets=["32x32x16"], default_num_steps=3)
    return made


def _clip(num_frames: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (num_frames, SIDE, SIDE, 3), dtype=np.uint8)


def _made(pipeline: SkyloomPipeline, task: Task, seed: int = 0) -> np.ndarray:
    (video,) = finish(pipeline.run(task, seeds=[seed], options=OPTIONS))
    assert video.dtype == np.uint8
    return video


@pytest.mark.parametrize("num_frames", [4, 16, 24, 60])
def test_any_length_is_made_window_by_window(pipeline: SkyloomPipeline, num_frames: int) -> None:
    task = Generate("a red ball", VideoShape(num_frames, SIDE, SIDE))
    assert _made(pipeline, task).shape == (num_frames, SIDE, SIDE, 3)
    steps = [progress.step for progress in pipeline.run(task, seeds=[0], options=OPTIONS)]
    num_plans = 1 if num_frames <= 16 else 1 + -(-(num_frames - 16) // 8)
    assert steps == list(range(1, 3 * num_plans + 1))


def test_a_window_sees_what_was_made_before(pipeline: SkyloomPipeline) -> None:
    short, long = (_made(pipeline, Generate("a red ball", VideoShape(length, SIDE, SIDE))) for length in (16, 24))
    assert np.array_equal(short, long[:16]), "what is there is not changed by what follows"


def test_seeds_give_variations(pipeline: SkyloomPipeline) -> None:
    task = Generate("a red ball", VideoShape(8, SIDE, SIDE))
    first, second = finish(pipeline.run(task, seeds=[0, 1], options=OPTIONS))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, _made(pipeline, task))


@pytest.mark.parametrize("given", [1, 3, 10, 16])
@pytest.mark.parametrize("num_frames", [1, 8, 21])
def test_an_extension_keeps_the_video_on_either_side(pipeline: SkyloomPipeline, given: int, num_frames: int) -> None:
    clip = _clip(given)
    forward = _made(pipeline, Extend(clip, "x", num_frames))
    backward = _made(pipeline, Extend(clip, "x", num_frames, direction="backward"))
    assert len(forward) == len(backward) == given + num_frames
    assert np.array_equal(forward[:given], clip)
    assert np.array_equal(backward[-given:], clip)


def test_an_extension_depends_on_the_frames_it_joins(pipeline: SkyloomPipeline) -> None:
    clip = _clip()
    end, begin = clip.copy(), clip.copy()
    end[-4:], begin[:4] = 0, 0
    new = _made(pipeline, Extend(clip, "x", 8))[16:]
    assert not np.array_equal(new, _made(pipeline, Extend(end, "x", 8))[16:])
    assert np.array_equal(new, _made(pipeline, Extend(begin, "x", 8))[16:]), "frames beyond the history do not matter"


def test_given_movement_needs_no_guidance(pipeline: SkyloomPipeline) -> None:
    """Of extensions and joins, unless one is asked for; a still picture is guided as any prompt is."""
    clip, usual = _clip(8), pipeline.facts.default_guidance_scale
    tasks = [(Extend(clip, "a", 8), 1.0), (Join(clip, clip, "a", 8), 1.0), (Animate(clip[0], "a", 8), usual)]
    for task, scale in tasks:
        plain, said = (
            finish(pipeline.run(task, options=SamplingOptions(num_steps=2, guidance_scale=given)))[0]
            for given in (None, scale)
        )
        assert np.array_equal(plain, said)
        other = finish(pipeline.run(task, options=SamplingOptions(num_steps=2, guidance_scale=6.0)))[0]
        assert not np.array_equal(plain, other)


def test_an_animation_begins_with_its_picture(pipeline: SkyloomPipeline) -> None:
    image = _clip(1)[0]
    video = _made(pipeline, Animate(image, "the ball rolls", 16))
    assert video.shape == (16, SIDE, SIDE, 3)
    assert np.array_equal(video[0], image)
    assert not np.array_equal(video[1], image)


def test_a_picture_is_one_frame(pipeline: SkyloomPipeline) -> None:
    assert _made(pipeline, Image("a red ball", SIDE, 48)).shape == (1, SIDE, 48, 3)


def test_a_loop_is_decoded_as_a_ring(pipeline: SkyloomPipeline) -> None:
    video = _made(pipeline, Loop("a red ball", VideoShape(16, SIDE, SIDE)))
    assert video.shape == (16, SIDE, SIDE, 3)


def test_a_loop_does_not_depend_on_its_batch(pipeline: SkyloomPipeline) -> None:
    task = Loop("a red ball", VideoShape(16, SIDE, SIDE))
    alone, together = (finish(pipeline.run(task, seeds=seeds, options=OPTIONS)) for seeds in ([5], [1, 5]))
    assert np.array_equal(alone[0], together[1])


def test_what_an_option_cannot_do_is_said(pipeline: SkyloomPipeline) -> None:
    edit = Edit(np.zeros((8, SIDE, SIDE, 3), np.uint8), "a blue ball", "a red ball")
    with pytest.raises(ConfigError, match="solver='heun'"):
        finish(pipeline.run(edit, options=SamplingOptions(num_steps=2, solver="heun")))
    for options in ({"solver": "multistep"}, {"guidance_low": 0.2}, {"guidance_high": 0.8}):
        with pytest.raises(ValidationError, match="zero_star"):
            SamplingOptions.model_validate({"guidance": "zero_star"} | options)


@torch.no_grad()
def test_a_ring_decodes_the_same_wherever_it_is_cut() -> None:
    torch.manual_seed(0)
    autoencoder = VideoAutoencoder(
        latent_channels=4, frame_channels=8, fine_channels=8, coarse_channels=16, decoder_blocks=(1, 1, 3)
    ).eval()
    for parameter in autoencoder.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    latents = torch.randn(1, 4, 5, 4, 4)
    whole = autoencoder.decode(latents, is_ring=True)
    turned = autoencoder.decode(latents.roll(2, 2), is_ring=True)
    torch.testing.assert_close(turned, whole.roll(8, 2), atol=1e-5, rtol=1e-5)
    assert (autoencoder.decode(latents) - whole)[:, :, :4].abs().max() > 1e-3


@pytest.mark.parametrize("num_frames", [3, 8, 20])
def test_a_join_keeps_both_videos(pipeline: SkyloomPipeline, num_frames: int) -> None:
    first, second = _clip(12, seed=1), _clip(9, seed=2)
    video = _made(pipeline, Join(first, second, "x", num_frames))
    assert len(video) == 12 + num_frames + 9
    assert np.array_equal(video[:12], first)
    assert np.array_equal(video[-9:], second)
    other = _made(pipeline, Join(first, _clip(9, seed=3), "x", num_frames))
    assert not np.array_equal(video[12:-9], other[12:-9])


@pytest.mark.parametrize("num_frames", [1, 4, 8])
def test_a_blend_of_two_ends_alone_is_refused(pipeline: SkyloomPipeline, num_frames: int) -> None:
    with pytest.raises(ConfigError, match="give more than 8 frames"):
        _made(pipeline, Blend(_clip(num_frames), _clip(num_frames, 1), ("one", "two")))
    assert len(_made(pipeline, Blend(_clip(9), _clip(9, 1), ("one", "two")))) == 9


@pytest.mark.parametrize("shape", [(16, 20, 20, 3), (16, 24, 24, 3), (16, 100, 60, 3), (0, 32, 32, 3)])
def test_a_video_of_a_size_that_cannot_be_seen_is_refused(pipeline: SkyloomPipeline, shape: tuple[int, ...]) -> None:
    video = np.zeros(shape, np.uint8)
    for task in (Extend(video, "p", 8), Edit(video, "p"), Blend(video, video, ("p", "q"))):
        with pytest.raises(ConfigError, match=r"multiple of 16|without frames"):
            _made(pipeline, task)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_a_mask_of_any_kind_of_number_marks_the_same_region(pipeline: SkyloomPipeline, kind: type) -> None:
    video, mask = _clip(8), np.zeros((8, SIDE, SIDE), bool)
    mask[:, :16] = True
    made = _made(pipeline, Inpaint(video, mask.astype(kind), "p"))
    assert np.array_equal(made[:, 16:], video[:, 16:])
    assert not np.array_equal(made[:, :16], video[:, :16])


def test_a_blend_begins_as_the_first_and_ends_as_the_second(pipeline: SkyloomPipeline) -> None:
    first, second = _clip(16, seed=1), _clip(16, seed=2)
    video = _made(pipeline, Blend(first, second, ("one", "two")))
    ends = [pipeline.decode(pipeline.encode([clip]))[0] for clip in (first, second)]
    assert video.shape == first.shape
    assert np.abs(video[:4].astype(int) - ends[0][:4]).max() <= 1
    assert not np.array_equal(video, _made(pipeline, Blend(first, second, ("one", "three"))))


@pytest.mark.parametrize("source", [None, "a red ball"])
def test_an_edit_moves_with_strength_and_prompt(pipeline: SkyloomPipeline, source: str | None) -> None:
    clip = _clip(14)
    unchanged = pipeline.decode(pipeline.encode([np.concatenate([clip, clip[-1:], clip[-1:]])]))[0][:14]
    weak, strong = (_made(pipeline, Edit(clip, "a blue cube", source, strength)) for strength in (0.34, 1.0))
    distances = [np.abs(video.astype(int) - unchanged).mean() for video in (weak, strong)]
    assert weak.shape == clip.shape
    assert 0 < distances[0] < distances[1]
    assert not np.array_equal(strong, _made(pipeline, Edit(clip, "a green cone", source, 1.0)))


def test_flow_edit_between_equal_prompts_with_equal_guidance_changes_nothing(pipeline: SkyloomPipeline) -> None:
    clip, options = _clip(16), SamplingOptions(num_steps=3, guidance_scale=1.5)
    (video,) = finish(pipeline.run(Edit(clip, "a red ball", "a red ball"), seeds=[0], options=options))
    unchanged = pipeline.decode(pipeline.encode([clip]))[0]
    assert np.abs(video.astype(int) - unchanged).max() <= 1


TEXTS = ["a red ball falls", "a red ball jumps", "a dark floor"]


class _Asking(Expander):
    """Takes of some texts the one that explains the video best, however often it has to ask."""

    def __call__(self, prompt: str, like: str = "") -> str:
        return f"{prompt}, like {like}"

    def is_open(self, prompt: str) -> bool:
        return "ball" not in prompt

    def reading(self, prompt: str) -> Reading:
        del prompt
        self.misfits = yield TEXTS
        again = yield TEXTS[::-1]
        assert again == self.misfits[::-1]
        return min(zip(self.misfits, TEXTS, strict=True))[1]


def test_the_video_is_asked_what_an_edit_s_source_prompt_leaves_open(pipeline: SkyloomPipeline) -> None:
    clip, asking = _clip(16), _Asking()
    read = _made(pipeline, Edit(clip, "a blue cube", "a red ball", 1.0, asking))
    assert len(set(asking.misfits)) == len(TEXTS)
    source = TEXTS[int(np.argmin(asking.misfits))]
    assert np.array_equal(read, _made(pipeline, Edit(clip, f"a blue cube, like {source}", source, 1.0)))


@pytest.mark.parametrize(
    ("task", "usual"),
    [
        (Extend(_clip(8), "p", 8), CONTINUED),
        (Extend(_clip(8), "p", 8, "backward"), CONTINUED),
        (Feature(_clip(8), "p", 8), BESIDE_GIVEN),
        (Animate(_clip(1)[0], "p", 9), BESIDE_GIVEN),
        (Join(_clip(8), _clip(8), "p", 8), CONTINUED.or_else(PLAIN)),
        (Blend(_clip(16), _clip(16), ("p", "q")), PLAIN),
        (Inpaint(_clip(8), np.ones((8, 32, 32), bool), "p"), PLAIN),
    ],
)
def test_given_frames_lead_what_goes_on_from_them(
    pipeline: SkyloomPipeline, task: Task, usual: SamplingOptions
) -> None:
    """Across a seam the prompt does not guide; between given frames nothing is averaged (decisions 0017, 0027)."""
    plan = next(task.run(pipeline))
    assert isinstance(plan, Plan)
    assert plan.usual == usual


@pytest.mark.parametrize(
    ("task", "usual"),
    [
        (  # after a cut: first with the scene before in sight, then anew
            Storyboard((Card("p", 8), Card("q", 8, _clip(8)), Card("r", 16)), 32, 32),
            [BESIDE_GIVEN, PLAIN, BESIDE_GIVEN, PLAIN, PLAIN, BESIDE_GIVEN],
        ),
        (Generate("p", VideoShape(24, 32, 32)), [BESIDE_GIVEN] * 2),
        (Generate("p", VideoShape(16, 32, 32)), [UNSAID]),
        (Animate(_clip(1)[0], "p", 24), [BESIDE_GIVEN] * 3),
        (Extend(_clip(8), "p", 24), [CONTINUED] * 3),
    ],
)
def test_windows_of_one_scene_are_sampled_alike(
    pipeline: SkyloomPipeline, task: Task, usual: list[SamplingOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []
    sampled = pipeline._sampled
    monkeypatch.setattr(pipeline, "_sampled", lambda plan, *rest: plans.append(plan) or sampled(plan, *rest))
    _made(pipeline, task)
    assert [plan.usual for plan in plans] == usual


def test_options_that_are_named_go_before_what_is_usual() -> None:
    said = SamplingOptions(history_scale=1.0, polish=()).or_else(CONTINUED)
    assert (said.history_scale, said.guidance_scale, said.moves_patches, said.polish) == (1.0, 1.0, False, ())


@pytest.mark.parametrize("kind", [Extend, Feature, Animate])
def test_what_goes_on_is_as_in_the_video_where_the_prompt_says_nothing(pipeline: SkyloomPipeline, kind: type) -> None:
    given, asking = _clip(16) if kind is not Animate else _clip(16)[0], _Asking()
    read = _made(pipeline, kind(given, "it jumps", 8, expander=asking))
    like = TEXTS[int(np.argmin(asking.misfits))]
    assert np.array_equal(read, _made(pipeline, kind(given, f"it jumps, like {like}", 8)))
    whole = _made(pipeline, kind(given, "a ball jumps", 8, expander=asking))
    assert np.array_equal(whole, _made(pipeline, kind(given, "a ball jumps, like ", 8)))


def test_without_a_word_of_it_the_video_is_asked_for_all_unless_a_strength_is_named(pipeline: SkyloomPipeline) -> None:
    clip, asking = _clip(16), _Asking()
    read = _made(pipeline, Edit(clip, "a blue cube", expander=asking))
    source = TEXTS[int(np.argmin(asking.misfits))]
    assert np.array_equal(read, _made(pipeline, Edit(clip, f"a blue cube, like {source}", source)))
    noised = _made(pipeline, Edit(clip, "a blue cube", strength=0.7, expander=asking))
    assert np.array_equal(noised, _made(pipeline, Edit(clip, "a blue cube, like ", strength=0.7)))
    cannot_read = _made(pipeline, Edit(clip, "a blue cube", expander=AsItIs()))
    assert np.array_equal(cannot_read, _made(pipeline, Edit(clip, "a blue cube", strength=0.7)))


def test_nothing_of_an_edit_takes_longer_than_a_denoising_step_to_be_stopped(pipeline: SkyloomPipeline) -> None:
    evaluations = [0]
    hook = pipeline.transformer.register_forward_hook(lambda *_: evaluations.append(evaluations.pop() + 1))
    done, num_since = [], []
    for said in pipeline.stream(Edit(_clip(16), "a blue cube", "a red ball", 1.0, _Asking())):
        done.append(getattr(said, "step", None))
        num_since.append(evaluations[0])
        evaluations[0] = 0
    hook.remove()
    num_steps = pipeline.defaults.num_steps
    assert done == [0] * 2 * len(TEXTS) + [0, *range(num_steps + 1), None]
    assert min(num_since[:-1]) > 0
    assert max(num_since) == num_since[-2]  # the last step's


def test_only_the_masked_region_is_made_anew(pipeline: SkyloomPipeline) -> None:
    clip, mask = _clip(16), np.zeros((16, SIDE, SIDE), bool)
    mask[:, :16, :16] = True
    video = _made(pipeline, Inpaint(clip, mask, "a red ball"))
    assert np.array_equal(video[~mask], clip[~mask])
    assert not np.array_equal(video[mask], clip[mask])


def test_each_scene_of_a_storyboard_follows_its_own_text(pipeline: SkyloomPipeline) -> None:
    def board(second: str) -> np.ndarray:
        return _made(pipeline, Storyboard((Card("a red ball", 16), Card(second, 8)), SIDE, SIDE))

    one, other = board("a blue cube"), board("a green cone")
    assert one.shape == (24, SIDE, SIDE, 3)
    assert np.array_equal(one[:16], other[:16])
    assert not np.array_equal(one[16:], other[16:])


def test_a_scene_begins_with_its_picture(pipeline: SkyloomPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    # an untrained decoder shows noise, of which nothing would be still
    monkeypatch.setattr("model.seams.MOVED", 1e9)
    picture = _clip(1)
    video = _made(pipeline, Storyboard((Card("one", 8), Card("two", 8, picture)), SIDE, SIDE))
    other = _made(pipeline, Storyboard((Card("one", 8), Card("two", 8)), SIDE, SIDE))
    distance, without = (np.abs(v[8:12].astype(float) - picture).mean() for v in (video, other))
    assert distance < without / 2
    assert np.array_equal(video[8], picture[0])
    assert len(video) == 16


@pytest.mark.parametrize(("begin", "given"), [(0, 8), (8, 8), (8, 5), (12, 20), (0, 24), (20, 24)])
def test_a_scene_begins_with_its_clip_and_goes_on_from_it(pipeline: SkyloomPipeline, begin: int, given: int) -> None:
    """Wherever it lies to the windows of 16 frames, and however long it is."""
    clip = _clip(given)
    other = np.concatenate([clip[:-1], 255 - clip[-1:]])
    scene = -(-given // 4) * 4 + 8

    def board(shown: np.ndarray | None) -> np.ndarray:
        cards = (*([Card("one", begin)] if begin else []), Card("two", scene, shown), Card("three", 8))
        return _made(pipeline, Storyboard(cards, SIDE, SIDE))

    video, changed, without = board(clip), board(other), board(None)
    assert len(video) == begin + scene + 8
    assert np.array_equal(video[begin : begin + given], clip)
    after = slice(begin + given, None)
    assert not np.array_equal(video[after], changed[after]), "what follows depends on the last frame of the clip"
    assert np.array_equal(video[:begin], without[:begin]), "a scene knows nothing of what comes after the cut"


def test_a_clip_may_fill_its_scene(pipeline: SkyloomPipeline) -> None:
    clip = _clip(8)
    assert np.array_equal(_made(pipeline, Storyboard((Card("one", 8, clip), Card("two", 4)), SIDE, SIDE))[:8], clip)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Generate("x", VideoShape(7, SIDE, SIDE)), "num_frames=7"),
        (Generate("x", VideoShape(8, SIDE, 40)), "40"),
        (Storyboard((), SIDE, SIDE), "without cards"),
        (Storyboard((Card("x", 8, _clip(9)),), SIDE, SIDE), "9 frames.*num_frames=8"),
        (Storyboard((Card("x", 8, _clip(0)),), SIDE, SIDE), "0 frames"),
        (Storyboard((Card("x", 8, _clip(8)),), SIDE, SIDE + 16), "32, 32, 3.*32 x 48"),
        (Storyboard((Card("x", 8, _clip(1)[0]),), SIDE, SIDE), "channels"),
        (Extend(_clip(8), "x", 0), "num_frames=0"),
        (Animate(_clip(1)[0], "x", 1), "num_frames=1"),
        (Join(_clip(8), _clip(8)[:, :16], "x", 8), "cannot be joined"),
        (Blend(_clip(8), _clip(12), ("x", "y")), "cannot be blended"),
        (Edit(_clip(8), "x", strength=0), "strength=0"),
        (Inpaint(_clip(8), np.zeros((8, 1, 1), bool), "x"), "does not fit"),
    ],
)
def test_what_cannot_be_is_refused_with_its_value(pipeline: SkyloomPipeline, task: Task, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        finish(pipeline.run(task, options=OPTIONS))


def test_no_seed_is_no_video(pipeline: SkyloomPipeline) -> None:
    with pytest.raises(ConfigError, match="seed"):
        finish(pipeline.run(Image("x", SIDE, SIDE), seeds=[]))

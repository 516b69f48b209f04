import json
from fractions import Fraction

import numpy as np
import pytest

from data.catalog import write_table
from data.video import write_mp4
from data.workspace import Workspace
from flows.recipes import ShowcaseConfig
from flows.showcase import Wish, check_video, wanted
from model.errors import StageError
from model.facts import PipelineFacts
from model.weights import FACTS_FILE


@pytest.fixture
def workspace(tmp_path):
    place = Workspace(tmp_path)
    place.pipeline.mkdir()
    facts = PipelineFacts(fps=8, trained_buckets=["64x64x16", "80x48x16"])
    (place.pipeline / FACTS_FILE).write_text(facts.model_dump_json())
    return place


def test_unseen_prompts_are_asked_in_every_trained_size(workspace):
    workspace.evaluation.mkdir()
    samples = [{"prompt": f"prompt {n}"} for n in range(9)]
    (workspace.evaluation / "results.json").write_text(json.dumps({"samples": samples}))
    found = wanted(ShowcaseConfig(num_videos=3), workspace)
    assert found == [
        Wish("prompt 0", "64x64", "2"),
        Wish("prompt 3", "80x48", "2"),
        Wish("prompt 6", "64x64", "2"),
    ]


def test_without_an_evaluation_captions_are_asked(workspace):
    write_table(workspace.catalog / "captions.parquet", [{"clip_id": str(n), "dense": f"clip {n}"} for n in range(4)])
    assert [wish.prompt for wish in wanted(ShowcaseConfig(num_videos=2), workspace)] == ["clip 0", "clip 2"]


def test_the_recipe_s_own_prompts_and_sizes_come_first(workspace):
    config = ShowcaseConfig(prompts=("a cube",), sizes=("32x32",), num_videos=2, seconds="1")
    assert wanted(config, workspace) == [Wish("a cube", "32x32", "1")] * 2


def test_nothing_to_ask_is_an_error(workspace):
    with pytest.raises(StageError, match=r"--showcase\.prompts"):
        wanted(ShowcaseConfig(), workspace)


@pytest.mark.parametrize(
    ("shape", "fps", "fault"),
    [((16, 64, 64, 3), 8, None), ((12, 64, 64, 3), 8, "12"), ((16, 48, 64, 3), 8, "64x48"), ((16, 64, 64, 3), 9, "9")],
)
def test_a_video_is_checked_to_its_last_frame(tmp_path, shape, fps, fault):
    path = tmp_path / "video.mp4"
    write_mp4(path, np.zeros(shape, np.uint8), fps)
    wish = Wish("a ball", "64x64", "2")
    if fault is None:
        check_video(path, wish, Fraction(8))
        return
    with pytest.raises(StageError, match=fault):
        check_video(path, wish, Fraction(8))

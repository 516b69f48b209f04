import json
import random

import pytest

from data.caption import caption_batch, caption_clips
from data.caption_records import CaptionJournal, captions_path, read_captions
from data.catalog import write_table
from data.config import CaptionConfig
from data.video import read_frames
from model.captioner import CaptionText
from model.errors import SourceError, StageError


class ColourCaptioner:
    """Says the colour of the first pixel, so that a caption on the wrong clip shows."""

    def __init__(self, digest="c" * 64, fails_at=None):
        self.digest = digest
        self.batches = []
        self.fails_at = fails_at

    def caption(self, clips):
        self.batches.append([clip.stem for clip in clips])
        if len(self.batches) == self.fails_at:
            raise KeyboardInterrupt
        return [say_colour(clip) for clip in clips]


def say_colour(path):
    red, green, blue = read_frames(path)[0, 0, 0]
    return CaptionText(f"{red}", f"{red} {green} {blue}", {"subject": f"{blue}"})


@pytest.fixture
def use(monkeypatch):
    """Makes caption_clips load the given backend."""

    def set_backend(backend):
        monkeypatch.setattr("data.caption.load_backend", lambda config, workspace: backend)
        return backend

    return set_backend


@pytest.fixture
def bare(clip_row, write_clips):
    rows = [clip_row(f"clip {index}", ["32x16x8", "16x32x8"][index % 2]) for index in range(9)]
    rows.append(clip_row("dropped", status="dropped"))
    write_clips(rows)
    return rows[:9]


def assert_captions_fit(workspace, clips):
    paths = {clip["clip_id"]: workspace.root / clip["path"] for clip in clips}
    captions = read_captions(workspace)
    assert {caption.clip_id for caption in captions} == set(paths)
    for caption in captions:
        text = say_colour(paths[caption.clip_id])
        assert (caption.short, caption.dense) == (text.short, text.dense)
        assert json.loads(caption.structured) == text.structured
    assert len({caption.dense for caption in captions}) == len(clips)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_captions_belong_to_their_clips(workspace, bare, use, batch_size):
    use(ColourCaptioner())
    result = caption_clips(CaptionConfig(batch_size=batch_size), workspace)
    assert_captions_fit(workspace, bare)
    assert (result.gave["clips"], result.gave["captioned_now"], result.gave["origin_captioner"]) == (9, 9, 9)


def test_a_shuffled_batch_keeps_captions_with_clips(workspace, bare):
    shuffled = random.Random(5).sample(bare, len(bare))
    captions = caption_batch(ColourCaptioner(), "captioner", shuffled, workspace)
    write_table(captions_path(workspace), [vars(caption) for caption in captions])
    assert_captions_fit(workspace, bare)


def test_sidecar_text_wins_and_is_not_captioned(workspace, clip_row, write_clips, use):
    both = clip_row(
        "both", sidecar_short="a cube", sidecar_dense="a red cube rolls", sidecar_structured='{"subject": "cube"}'
    )
    one = clip_row("one", sidecar_short=" ", sidecar_dense="only this")
    without = clip_row("without")
    write_clips([both, one, without])
    backend = use(ColourCaptioner())
    result = caption_clips(CaptionConfig(), workspace)
    captions = {caption.clip_id: caption for caption in read_captions(workspace)}
    assert backend.batches == [[without["clip_id"]]]
    assert captions[both["clip_id"]].short == "a cube"
    assert captions[both["clip_id"]].dense == "a red cube rolls"
    assert json.loads(captions[both["clip_id"]].structured) == {"subject": "cube"}
    assert captions[one["clip_id"]].short == captions[one["clip_id"]].dense == "only this"
    assert captions[without["clip_id"]].producer == backend.digest
    assert captions[one["clip_id"]].producer != backend.digest
    assert (result.gave["origin_sidecar"], result.gave["origin_captioner"]) == (2, 1)


def test_with_sidecar_text_everywhere_no_captioner_is_needed(workspace, clip_row, write_clips):
    write_clips([clip_row("a", sidecar_dense="text")])
    assert not workspace.captioner.exists()
    assert caption_clips(CaptionConfig(), workspace).gave["clips"] == 1


def test_a_run_that_stops_goes_on_where_it_was(workspace, bare, use):
    use(ColourCaptioner(fails_at=3))
    with pytest.raises(KeyboardInterrupt):
        caption_clips(CaptionConfig(batch_size=2), workspace)
    assert not captions_path(workspace).exists()
    backend = use(ColourCaptioner())
    result = caption_clips(CaptionConfig(batch_size=2), workspace)
    assert sum(map(len, backend.batches)) == result.gave["captioned_now"] == 5
    assert_captions_fit(workspace, bare)


def test_each_producer_captions_a_clip_once(workspace, bare, use, clip_row, write_clips):
    first = use(ColourCaptioner("1" * 64))
    digest = caption_clips(CaptionConfig(), workspace).digest
    second = use(ColourCaptioner("2" * 64))
    caption_clips(CaptionConfig(), workspace)
    assert {caption.producer for caption in read_captions(workspace)} == {second.digest}
    use(first)
    assert caption_clips(CaptionConfig(), workspace).digest == digest
    write_clips([*bare, clip_row("one more")])
    caption_clips(CaptionConfig(), workspace)
    assert [len(batch) for batch in first.batches] == [9, 1]


def test_a_line_cut_by_a_kill_is_dropped_and_its_clip_captioned_again(workspace, bare, use):
    backend = use(ColourCaptioner())
    caption_clips(CaptionConfig(), workspace)
    journal = CaptionJournal(workspace, backend.digest)
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[:-20])
    result = caption_clips(CaptionConfig(), workspace)
    assert result.gave["captioned_now"] == 1
    assert_captions_fit(workspace, bare)
    assert journal.path.read_bytes() == data


class SilentOn(ColourCaptioner):
    def __init__(self, silent):
        super().__init__()
        self.silent = silent

    def caption(self, clips):
        texts = super().caption(clips)
        empty = CaptionText("", " ", {})
        return [empty if clip.stem in self.silent else text for clip, text in zip(clips, texts, strict=True)]


def test_a_few_failures_are_counted_and_tried_again_next_time(workspace, bare, use):
    silent = {bare[4]["clip_id"]}
    use(SilentOn(silent))
    result = caption_clips(CaptionConfig(max_failed_share=0.2), workspace)
    assert (result.gave["clips"], result.gave["uncaptioned"]) == (8, 1)
    assert_captions_fit(workspace, [clip for clip in bare if clip["clip_id"] not in silent])
    use(ColourCaptioner())
    assert caption_clips(CaptionConfig(), workspace).gave["captioned_now"] == 1


def test_many_failures_stop_the_run(workspace, bare, use):
    use(SilentOn({clip["clip_id"] for clip in bare[:3]}))
    with pytest.raises(StageError, match="3 of 9 clips got no caption"):
        caption_clips(CaptionConfig(max_failed_share=0.2), workspace)


def test_a_backend_that_loses_a_caption_is_refused(workspace, bare):
    class Losing(ColourCaptioner):
        def caption(self, clips):
            return super().caption(clips)[1:]

    with pytest.raises(StageError, match="gave 8 captions for 9 clips"):
        caption_batch(Losing(), "captioner", bare, workspace)


def test_no_kept_clip_is_refused(workspace, write_clips, clip_row):
    write_clips([clip_row("dropped", status="dropped")])
    with pytest.raises(SourceError, match="no kept clip"):
        caption_clips(CaptionConfig(), workspace)

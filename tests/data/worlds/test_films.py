import json
from fractions import Fraction

import numpy as np
import pytest

from data.split import ShotConfig, ShotTracker
from data.video import iter_frames, open_video, read_frames
from data.worlds.captions import Attributes, dense_caption, short_caption
from data.worlds.config import FilmsConfig
from data.worlds.films import render_films
from model.errors import DecodeError

CONFIG = FilmsConfig(num_films=4, shots_per_film=4, seed=7, num_processes=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("tabletop")
    return root, render_films(CONFIG, root / "films", root / "truth")


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def truth_of(root, name):
    return json.loads((root / "truth" / f"{name}.json").read_text())


def test_files_and_figures(made):
    root, result = made
    names = [path.name for path in sorted((root / "films").iterdir())]
    assert names == sorted(
        [f"film-{index:03d}.mp4" for index in range(6)] + ["film-001.captions.json", "film-003.captions.json"]
    )
    assert {path.name for path in result.outputs} == set(names)
    assert result.gave["shots"] == 16
    assert result.gave["captioned_films"] == 2
    assert result.gave["frames"] == sum(
        len(shot["times_s"]) for index in range(4) for shot in truth_of(root, f"film-{index:03d}")["shots"]
    )


def test_decoded_frames_have_the_true_times_and_size(made):
    root, _ = made
    for index in range(4):
        truth = truth_of(root, f"film-{index:03d}")
        frames = list(iter_frames(root / "films" / f"film-{index:03d}.mp4"))
        expected = [time_s for shot in truth["shots"] for time_s in shot["times_s"]]
        assert [frame.time_s for frame in frames] == pytest.approx(expected, abs=1e-4)
        assert {frame.rgb.shape for frame in frames} == {(truth["height"], truth["width"], 3)}


def test_objects_are_where_the_truth_says(made):
    root, _ = made
    for index in range(4):  # among them the film stored on its side
        truth = truth_of(root, f"film-{index:03d}")
        frames = read_frames(root / "films" / f"film-{index:03d}.mp4").astype(int)
        boxes = np.concatenate([shot["boxes_px"] for shot in truth["shots"]])
        for frame, (left, top, right, bottom) in zip(frames[::5], boxes[::5], strict=True):
            rows, columns = np.nonzero(frame.max(axis=-1) - frame.min(axis=-1) > 60)
            drawn = (np.median(columns), np.median(rows))
            assert drawn == pytest.approx(((left + right) / 2, (top + bottom) / 2), abs=0.3 * (bottom - top))


def test_rotated_film_is_stored_on_its_side(made):
    root, _ = made
    with open_video(root / "films" / "film-002.mp4") as (container, stream):
        assert (stream.codec_context.width, stream.codec_context.height) == (128, 72)
        assert next(container.decode(stream)).rotation == 90


def test_one_film_has_a_variable_rate(made):
    root, _ = made
    for index, is_variable in ((0, False), (1, True)):
        with open_video(root / "films" / f"film-{index:03d}.mp4") as (container, stream):
            times = [Fraction(frame.pts) * stream.time_base for frame in container.decode(stream)]
        assert (len(set(np.diff(times))) > 1) == is_variable


def test_cuts_can_be_found(made):
    root, _ = made
    for index in range(4):
        tracker = ShotTracker[float](ShotConfig())
        frames = list(iter_frames(root / "films" / f"film-{index:03d}.mp4"))
        verdicts = [verdict for frame in frames for verdict in tracker.push(frame.time_s, frame.rgb)]
        found = [time_s for time_s, starts_shot in [*verdicts, *tracker.finish()] if starts_shot]
        starts = [shot["start_s"] for shot in truth_of(root, f"film-{index:03d}")["shots"]]
        assert found == pytest.approx(starts, abs=1e-3)


def test_duplicate_and_truncated_film(made):
    root, _ = made
    films = root / "films"
    assert (films / "film-004.mp4").read_bytes() == (films / "film-000.mp4").read_bytes()
    whole = (films / "film-003.mp4").read_bytes()
    broken = (films / "film-005.mp4").read_bytes()
    assert whole.startswith(broken)
    assert len(broken) < len(whole)
    with pytest.raises(DecodeError):
        read_frames(films / "film-005.mp4")


def test_captions_tell_the_truth(made):
    root, _ = made
    for name in ("film-001", "film-003"):
        captions = json.loads((root / "films" / f"{name}.captions.json").read_text())["captions"]
        for caption, shot in zip(captions, truth_of(root, name)["shots"], strict=True):
            attributes = Attributes(**shot["attributes"])
            assert (caption["start_s"], caption["end_s"]) == (shot["start_s"], shot["end_s"])
            assert caption["dense"] in {dense_caption(attributes, variant) for variant in range(3)}
            assert caption["short"] in {short_caption(attributes, variant) for variant in range(4)}
            assert caption["structured"].items() >= shot["attributes"].items()


def test_a_second_run_redoes_only_what_is_missing_and_gives_the_same_bytes(made):
    root, result = made
    before = contents(root)
    (root / "films" / "film-000.mp4").write_bytes(b"damaged")
    (root / "films" / "film-004.mp4").unlink()
    (root / "truth" / "film-003.json").unlink()
    (root / "films" / ".film-001.mp4.0.part").write_bytes(b"left by a killed run")
    heard = []
    again = render_films(CONFIG, root / "films", root / "truth", on_progress=lambda *done: heard.append(done))
    assert contents(root) == before
    assert again.digest == result.digest
    assert again.gave["rendered_now"] == 2
    assert heard == [(3, 4), (4, 4)]
    assert render_films(CONFIG, root / "films", root / "truth").gave["rendered_now"] == 0


def test_films_of_other_settings_go_and_strangers_stay(tmp_path):
    films, truth = tmp_path / "films", tmp_path / "truth"
    small = FilmsConfig(num_films=2, shots_per_film=1, rotated=False, num_processes=1)
    render_films(small, films, truth)
    (films / "film-900.mp4").write_bytes(b"somebody's own")
    fewer = small.model_copy(update={"num_films": 1, "duplicate": False, "truncated": False})
    result = render_films(fewer, films, truth)
    assert result.gave["rendered_now"] == 0
    assert sorted(path.name for path in films.iterdir()) == ["film-000.mp4", "film-900.mp4"]
    assert [path.name for path in truth.iterdir()] == ["film-000.json"]

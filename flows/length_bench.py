"""Videos longer than the starter's training clips: what their last two seconds show against their first."""

from data.worlds.captions import Attributes
from flows.bench import Measurement
from flows.bench_exam import Exam, open_exam
from flows.bench_rows import percent
from flows.size_bench import GOAL, LOOKS, NEAR, NUM_PROMPTS
from flows.starter_run import starter_run
from model.shapes import VideoShape
from training.judge import wilson_interval

LENGTHS = ("160x96x32", "112x112x64", "112x112x128")
ENDED = "112x112x64"
FIRST, LAST = slice(16), slice(-16, None)
NUM_LASTING = 32


def longer() -> dict[str, Measurement]:
    """What can go on and on, in all attributes; and whatever is asked for, in what it looks like."""
    place = starter_run()
    return lengths(open_exam(place, NUM_LASTING, can_last)) | any_motion(open_exam(place, NUM_PROMPTS))


def lengths(exam: Exam) -> dict[str, Measurement]:
    """All attributes right in the last two seconds of longer videos, against the first two of the same size."""
    rows = {}
    for name in LENGTHS:
        shape = VideoShape.parse(name)
        videos = exam.drawn(shape)
        share, usual = (exam.share_right([video[span] for video in videos]) for span in (LAST, FIRST))
        low, high = (100 * end for end in wilson_interval(share, len(videos)))
        what = f"all attributes right in the last 16 frames of {name}, {len(videos)} prompts ({low:.0f} to {high:.0f})"
        what += " of what can go on for so long: jumps before a still camera"
        rows[name] = percent(what, share, usual, "its first 16 frames", GOAL, holds=share >= usual - NEAR)
    return rows


def any_motion(exam: Exam) -> dict[str, Measurement]:
    """What the last two seconds of a long video still show where what is asked for comes to an end before."""
    videos = exam.drawn(VideoShape.parse(ENDED))
    last, first = (exam.share_right([video[span] for video in videos], LOOKS) for span in (LAST, FIRST))
    what = f"{', '.join(LOOKS)} right in the last 16 frames of {ENDED}, {len(videos)} prompts, whatever they ask for"
    return {f"{ENDED}-any": percent(what, last, first, "its first 16 frames", "none", holds=True)}


def can_last(shown: Attributes) -> bool:
    """Whether it can go on and on: what slides leaves the picture, what falls lies still, a zoom or pan has an end."""
    return shown.motion == "jumps" and shown.camera == "stays still"

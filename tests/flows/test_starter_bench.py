"""How the bench of few steps counts what a way of sampling takes."""

from flows.bench_exam import Exam
from flows.starter_bench import plain, timed
from model.sampling_options import PolishRound, SamplingOptions
from model.shapes import VideoShape


def test_the_networks_calls_are_counted(exam: Exam) -> None:
    calls = {options: timed(exam, VideoShape(8, 32, 32), options).num_evaluations for options in (plain(3), plain(2))}
    assert calls == {plain(3): 6, plain(2): 4}, "with the prompt and without it at each step"
    assert timed(exam, VideoShape(8, 32, 32), plain(2, "heun")).num_evaluations == 6
    polished = SamplingOptions(num_steps=2, polish=(PolishRound(level=0.5, num_predictions=5),))
    assert timed(exam, VideoShape(8, 32, 32), polished).num_evaluations == 4 + 5

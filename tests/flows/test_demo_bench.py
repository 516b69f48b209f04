"""The benchmarks of the demo: what they read, and their limits."""

import subprocess
import sys
import time

import psutil

from flows import demo_bench


def test_adherence_stands_beside_what_the_probe_finds_in_real_clips():
    scores = {"colour": {"generated": 0.9, "real": 1.0, "chance": 0.125, "goal": 0.95}}
    scores["floor"] = {"generated": 0.4, "real": 1.0, "chance": 0.33, "goal": None}
    results = {"num_prompts": 64, "adherence": scores, "coherence": {"generated": 0.8, "real": 1.0, "goal": 0.75}}
    rows = demo_bench.adherence_rows(results)
    assert {name: (row.ours, row.peer, row.holds) for name, row in rows.items()} == {
        "colour": (90.0, 100.0, False),
        "floor": (40.0, 100.0, True),
        "one object": (80.0, 100.0, True),
    }


def test_a_limit_that_is_passed_does_not_hold():
    assert demo_bench._limit("time", 899.0, "s", 900.0).holds
    assert not demo_bench._limit("time", 901.0, "s", 900.0).holds


def test_an_end_is_noticed_when_it_comes():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert not demo_bench._ends_within(process, 0.05)
    assert process.stdin
    process.stdin.close()
    began = time.monotonic()
    assert demo_bench._ends_within(process, 60)
    assert time.monotonic() - began < 30, "not only when the next sample is due"


def test_a_process_has_memory():
    assert demo_bench.tree_memory_bytes(psutil.Process()) > 1_000_000

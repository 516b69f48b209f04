"""The captioner: marked texts and back, saving, and one caption per clip in order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model.captioner import STEM_FILE, CaptionText, VideoCaptioner, from_marked_text, to_marked_text
from model.errors import CheckpointError
from training.captioner import train_tokenizer

CAPTIONS = [
    CaptionText(
        "a red ball falls", "a small red ball falls on a white floor", {"subject": "red ball", "camera": "stays still"}
    ),
    CaptionText("a cube", "a large blue cube jumps", {}),
]
words = st.text(alphabet="abcdefgh ", min_size=1).map(lambda text: " ".join(text.split())).filter(bool)


@given(words, words, st.dictionaries(st.sampled_from(["subject", "action", "camera"]), words))
def test_marked_texts_give_the_caption_back(short: str, dense: str, structured: dict[str, str]) -> None:
    caption = CaptionText(short, dense, structured)
    assert from_marked_text(to_marked_text(caption)) == caption


def test_tokens_spell_the_caption_again() -> None:
    tokenizer = train_tokenizer(CAPTIONS, 400)
    for caption in CAPTIONS:
        ids = tokenizer(to_marked_text(caption))["input_ids"]
        assert from_marked_text(tokenizer.decode(ids)) == caption


def test_a_saved_captioner_writes_the_same_captions(tmp_path: Path) -> None:
    captioner = VideoCaptioner(train_tokenizer(CAPTIONS, 300), dim=32, num_layers=1).eval()
    clips = [np.random.default_rng(seed).integers(0, 255, (16, 48, 80, 3), dtype=np.uint8) for seed in range(3)]
    written = captioner.caption(clips)
    captioner.save(tmp_path)
    again = VideoCaptioner.from_pretrained(tmp_path)
    assert again.caption(clips) == written
    assert again.caption(clips[::-1], batch_size=2) == written[::-1], "a caption belongs to its clip"


def test_a_folder_without_captioner_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="skyloom captioner"):
        VideoCaptioner.from_pretrained(tmp_path)


def test_a_captioner_of_another_shape_is_refused_with_advice(tmp_path: Path) -> None:
    VideoCaptioner(train_tokenizer(CAPTIONS, 300), dim=32, num_layers=1).save(tmp_path)
    stem = load_file(tmp_path / STEM_FILE)
    save_file({name: value[:-1].contiguous() for name, value in stem.items()}, tmp_path / STEM_FILE)
    with pytest.raises(CheckpointError, match="train it again"):
        VideoCaptioner.from_pretrained(tmp_path)

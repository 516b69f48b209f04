"""Text encoders: token states of the embedded one, padding, and a tiny T5 through the same door."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from model.errors import ConfigError
from model.text import load_text_encoder, pad_states


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder()


def test_one_state_per_word_piece_whatever_the_batch(minilm) -> None:
    alone = minilm.encode(["a red ball"])[0]
    together = minilm.encode(["a much longer sentence about a blue cube", "a red ball"])[1]
    assert alone.shape == (3, minilm.dim)
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-3)


def test_an_empty_prompt_has_no_states(minilm) -> None:
    assert minilm.encode([""])[0].shape == (0, minilm.dim)
    assert minilm.encode([]) == []


def test_colour_words_have_states_of_their_own(minilm) -> None:
    red, blue = minilm.encode(["a red ball", "a blue ball"])
    assert torch.nn.functional.cosine_similarity(red[1], blue[1], dim=0) < 0.9


def test_padding_says_which_places_hold_tokens() -> None:
    padded, is_token = pad_states([torch.ones(2, 3), torch.ones(5, 3)], 4)
    assert padded.shape == (2, 4, 3)
    assert is_token.tolist() == [[True, True, False, False], [True] * 4]
    assert padded.sum() == 2 * 3 + 4 * 3


def test_a_t5_folder_loads_through_the_same_door(tmp_path: Path) -> None:
    words = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", "a", "red", "ball"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(tmp_path)
    T5EncoderModel(T5Config(vocab_size=8, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path
    )
    encoder = load_text_encoder(str(tmp_path))
    assert [len(state) for state in encoder.encode(["a red ball", "ball"])] == [3, 1]
    assert encoder.dim == 16
    assert len(encoder.digest) == 64


def test_a_missing_folder_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="minilm"):
        load_text_encoder(str(tmp_path / "nothing"))

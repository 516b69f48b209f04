"""Wan's classes with some thousand random weights made here: loading and tasks are the real ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from model.errors import CheckpointError, ConfigError
from model.pixels import cells_of
from model.runner import finish
from model.sampling_options import SamplingOptions
from model.shapes import VideoShape
from model.tasks import Blend, Edit, Extend, Generate, Image, Inpaint, Loop
from model.wan import WanModel

WORDS = ("<pad>", "</s>", "<unk>", "a", "red", "blue", "ball", "cube", "falls")
OPTIONS = SamplingOptions(num_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wan")
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 2, 2], num_res_blocks=1, latents_mean=[0.1] * 4, latents_std=[2.0] * 4
    )
    vae.save_pretrained(str(path / "vae"))
    WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=16, freq_dim=16, ffn_dim=32, num_layers=1,
    ).save_pretrained(str(path / "transformer"))  # fmt: skip
    UMT5EncoderModel(
        UMT5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    ).save_pretrained(str(path / "text_encoder"))
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(str(path / "tokenizer"))
    return path


@pytest.fixture(scope="module")
def wan(folder: Path) -> WanModel:
    return WanModel.from_pretrained(folder)


def _clip(num_frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (num_frames, 32, 32, 3), dtype=np.uint8)


def test_a_prompt_and_a_seed_decide_the_video(wan: WanModel) -> None:
    def made(prompt: str, seed: int = 0) -> np.ndarray:
        return finish(wan.run(Generate(prompt, VideoShape(9, 32, 48)), seeds=[seed], options=OPTIONS))[0]

    video = made("a red ball")
    assert video.shape == (9, 32, 48, 3)
    assert np.array_equal(video, made("a red ball"))
    assert not np.array_equal(video, made("a blue cube"))
    assert not np.array_equal(video, made("a red ball", seed=1))


@pytest.mark.parametrize("source", [None, "a red ball"])
def test_edits_keep_the_length(wan: WanModel, source: str | None) -> None:
    task = Edit(_clip(7), "a blue ball", source, strength=0.6)
    assert finish(wan.run(task, options=OPTIONS))[0].shape == (7, 32, 32, 3)


def test_a_region_is_made_anew(wan: WanModel) -> None:
    clip, mask = _clip(9), np.zeros((9, 32, 32), bool)
    mask[:, :16] = True
    (video,) = finish(wan.run(Inpaint(clip, mask, "a red ball"), options=OPTIONS))
    assert np.array_equal(video[~mask], clip[~mask])


def test_a_mask_frees_the_latents_of_its_own_frames() -> None:
    mask = np.zeros((9, 32, 32), bool)
    mask[1:3, :8, :8] = True  # Wan's second latent frame holds frames 1 to 4
    cells = cells_of(mask, (3, 4, 4), has_uniform_groups=False)
    assert cells.nonzero().tolist() == [[1, 0, 0]]
    mask[0, 8:16] = True
    assert cells_of(mask, (3, 4, 4), has_uniform_groups=False)[0].nonzero().tolist() == [[1, x] for x in range(4)]
    uniform = cells_of(mask[:8], (2, 4, 4), has_uniform_groups=True)
    assert uniform[0, :2].nonzero().tolist() == [[0, 0], *([1, x] for x in range(4))]
    assert not uniform[1].any()


def test_a_picture_is_one_frame(wan: WanModel) -> None:
    assert finish(wan.run(Image("a red ball", 32, 48), options=OPTIONS))[0].shape == (1, 32, 48, 3)


def test_frames_may_have_noise_levels_of_their_own(wan: WanModel) -> None:
    latents, levels = torch.randn(1, 4, 3, 4, 4), torch.tensor([[0.0, 0.5, 1.0]])
    assert wan._timestep(latents, levels).shape == (1, 3 * 2 * 2)
    assert wan._timestep(latents, torch.full((1, 3), 0.5)).tolist() == [500.0]


def test_latents_are_normalised_by_the_folders_own_figures(wan: WanModel) -> None:
    clip = _clip(9)
    raw = wan.vae.encode(torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 127.5 - 1).latent_dist.mode()
    torch.testing.assert_close(wan.encode([clip]), (raw - 0.1) / 2, atol=1e-5, rtol=1e-5)


def test_what_its_latents_cannot_do_is_said(wan: WanModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 \\+ a multiple"):
        finish(wan.run(Generate("a red ball", VideoShape(8, 32, 32)), options=OPTIONS))
    with pytest.raises(ConfigError, match="ring"):
        finish(wan.run(Loop("a red ball", VideoShape(9, 32, 32)), options=OPTIONS))
    with pytest.raises(ConfigError, match="groups"):
        finish(wan.run(Extend(_clip(9), "a red ball", 8), options=OPTIONS))
    with pytest.raises(ConfigError, match="one text"):
        finish(wan.run(Blend(_clip(9), _clip(9), ("a red ball", "a blue cube")), options=OPTIONS))
    with pytest.raises(CheckpointError, match="vae, transformer"):
        WanModel.from_pretrained(tmp_path)

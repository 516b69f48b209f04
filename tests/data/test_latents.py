import hashlib
import subprocess
import sys

import pytest
import torch

from data.latents import check_maker, pack, read_header, unpack
from model.errors import ShardError

HEADER = {"autoencoder": "a" * 64, "fps": 8.0, "bucket": "32x16x8", "version": 1}


def make_tensors():
    torch.manual_seed(0)
    return {"mean": torch.randn(4, 2, 2, 4), "logvar": torch.randn(4, 2, 2, 4)}


def test_tensors_come_back_as_bf16_with_their_header():
    tensors = make_tensors()
    loaded, header = unpack(pack(tensors, HEADER))
    for name, tensor in tensors.items():
        assert loaded[name].dtype == torch.bfloat16
        assert torch.equal(loaded[name], tensor.bfloat16())
    assert header == HEADER | {"shapes": {"mean": [4, 2, 2, 4], "logvar": [4, 2, 2, 4]}}
    assert read_header(pack(tensors, HEADER)) == header


def test_another_process_writes_the_same_bytes():
    script = "import hashlib, torch; from data.latents import pack; t = torch.zeros(2, 3);"
    script += f"print(hashlib.sha256(pack({{'mean': t, 'logvar': t + 1}}, {HEADER!r})).hexdigest())"
    digests = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True).stdout}
    tensor = torch.zeros(2, 3)
    other = dict(reversed(HEADER.items()))
    digests.add(hashlib.sha256(pack({"logvar": tensor + 1, "mean": tensor}, other)).hexdigest() + "\n")
    assert len(digests) == 1


def test_a_view_of_a_batch_is_stored_alone():
    batch = torch.randn(64, 4, 2, 2, 4)
    assert len(pack({"mean": batch[3]}, {})) < 2 * batch[3].numel() + 400


def test_a_prompt_without_tokens_can_be_stored():
    loaded, header = unpack(pack({"dense": torch.zeros(0, 8)}, {}))
    assert loaded["dense"].shape == (0, 8)
    assert header["shapes"]["dense"] == [0, 8]


@pytest.mark.parametrize("keep", [0, 5, 60, -1])
def test_a_damaged_member_is_refused(keep):
    with pytest.raises(ShardError, match="encode the dataset again"):
        unpack(pack(make_tensors(), HEADER)[:keep])


def test_other_weights_are_refused():
    check_maker(HEADER, "autoencoder", "a" * 64)
    with pytest.raises(ShardError, match="made by autoencoder aaaaaaaaaaaa, the reader has autoencoder bbbbbbbbbbbb"):
        check_maker(HEADER, "autoencoder", "b" * 64)

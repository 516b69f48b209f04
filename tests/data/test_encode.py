import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import ray
import torch

from data.cluster import ensure_ray
from data.config import EncodeConfig, ShardConfig
from data.encode import encode_dataset
from data.encode_plan import plan_jobs, proven_members
from data.encode_shard import decode_clip
from data.latents import unpack
from data.manifest import Dataset, read_member, retract
from data.shards import write_dataset
from model.autoencoder import VideoAutoencoder
from model.errors import CheckpointError, ConfigError, ShardError
from model.pixels import covering, to_video
from model.precision import autocast
from model.text import load_text_encoder
from model.tiny import tiny_autoencoder
from model.weights import weights_digest

RAY = EncodeConfig(batch_size=2, text_batch_size=3, num_threads=1)
HERE = RAY.model_copy(update={"num_actors": 0})  # an actor takes seconds to start


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ensure_ray(num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def dataset(workspace, captioned):
    write_dataset(ShardConfig(clips_per_shard=3), workspace)
    tiny_autoencoder().save_pretrained(str(workspace.autoencoder))
    return Dataset.open(workspace.shards)


@pytest.fixture
def makers(workspace, dataset):
    return {"autoencoder": weights_digest(workspace.autoencoder), "text_encoder": load_text_encoder().digest}


def test_latents_and_prompts_are_those_of_their_clips(workspace, dataset, makers):
    result = encode_dataset(RAY, workspace)
    encoded = Dataset.open(workspace.latents)
    assert {group: [m.key for m in encoded.group(group)] for group in ("latent", "prompt")} == {
        group: [m.key for m in dataset.group("video")] for group in ("latent", "prompt")
    }
    assert encoded.card.parents == {"dataset": dataset.card.dataset_id, **makers}
    network, text_encoder = VideoAutoencoder.from_pretrained(workspace.autoencoder).eval(), load_text_encoder()
    for video, latent in zip(dataset.group("video"), encoded.group("latent"), strict=True):
        frames, fps = decode_clip(read_member(workspace.shards, video), video.bucket)
        with torch.inference_mode(), autocast():
            mean, logvar = network.encode(to_video([frames]))
        tensors, header = unpack(read_member(workspace.latents, latent))
        torch.testing.assert_close(tensors["mean"].float(), mean[0], atol=1e-4, rtol=1e-2)
        torch.testing.assert_close(tensors["logvar"].float(), logvar[0], atol=1e-4, rtol=1e-2)
        assert (header["fps"], header["bucket"], header["source"]) == (fps, video.bucket, video.digest)
        assert header["autoencoder"] == makers["autoencoder"]
    for text, prompt in zip(dataset.group("text"), encoded.group("prompt"), strict=True):
        words = json.loads(read_member(workspace.shards, text))
        tensors, header = unpack(read_member(workspace.latents, prompt))
        for form in ("dense", "short"):
            (states,) = text_encoder.encode([words[form]])
            torch.testing.assert_close(tensors[form].float(), states, atol=2e-2, rtol=2e-2)
        assert header["text_encoder"] == makers["text_encoder"]
    assert result.gave["clips_encoded"] == 7
    assert result.gave["shards"] == 6
    assert result.gave["latent_channels"] == 4


def test_clips_of_other_looks_have_other_latents(workspace, dataset):
    encode_dataset(HERE, workspace)
    encoded = Dataset.open(workspace.latents)
    means = [unpack(read_member(workspace.latents, member))[0]["mean"] for member in encoded.group("latent")]
    assert len({mean.float().numpy().tobytes() for mean in means}) == 7


def test_other_sizes_and_stills_lie_beside_the_clip_and_change_nothing_of_it(workspace, dataset):
    encode_dataset(HERE, workspace)
    plain = [unpack(read_member(workspace.latents, m))[0] for m in Dataset.open(workspace.latents).group("latent")]
    more = HERE.model_copy(update={"images": True, "scales": (2.0,)})
    assert encode_dataset(more, workspace).gave["shards_written"] == 3, "the prompts stay"
    network = VideoAutoencoder.from_pretrained(workspace.autoencoder).eval()
    latents = Dataset.open(workspace.latents).group("latent")
    for video, member, before in zip(dataset.group("video"), latents, plain, strict=True):
        tensors, _ = unpack(read_member(workspace.latents, member))
        frames, _ = decode_clip(read_member(workspace.shards, video), video.bucket)
        height, width = 2 * frames.shape[1], 2 * frames.shape[2]
        with torch.inference_mode(), autocast():
            doubled = network.encode(covering(to_video([frames]), height, width)).mean[0]
            still = network.encode(to_video([frames[[len(frames) // 2] * 4]])).mean[0]
        assert torch.equal(tensors["mean"], before["mean"])
        torch.testing.assert_close(tensors["x2_mean"].float(), doubled, atol=1e-3, rtol=2e-2)
        torch.testing.assert_close(tensors["image_mean"].float(), still, atol=1e-3, rtol=2e-2)
    assert encode_dataset(more, workspace).gave["shards_written"] == 0


def test_a_second_run_encodes_nothing_and_a_harmed_shard_comes_back_byte_for_byte(workspace, dataset):
    first = encode_dataset(HERE, workspace)
    before = contents(workspace.latents)
    assert encode_dataset(HERE, workspace).gave["shards_written"] == 0
    latent, prompt = (next(name for name in before if name.startswith(group)) for group in ("latent", "prompt"))
    (workspace.latents / latent).unlink()
    (workspace.latents / prompt).write_bytes(before[prompt][:5000])
    second = encode_dataset(RAY, workspace)
    assert (second.digest, second.gave["shards_written"]) == (first.digest, 2)
    assert contents(workspace.latents) == before


def test_another_autoencoder_makes_other_latents_and_keeps_the_prompts(workspace, dataset):
    encode_dataset(HERE, workspace)
    before = contents(workspace.latents)
    tiny_autoencoder(seed=1).save_pretrained(str(workspace.autoencoder))
    encode_dataset(HERE, workspace)
    after = contents(workspace.latents)
    assert {name for name in after if name in before and name.endswith(".tar")} == {
        name for name in before if name.startswith("prompt")
    }
    assert all(after[name] == before[name] for name in after if name.startswith("prompt"))


def test_a_shard_made_from_another_clip_is_not_taken_for_this_one(workspace, dataset, makers):
    encode_dataset(HERE, workspace)
    job = plan_jobs(dataset, makers)[0]
    assert proven_members(workspace.latents, job) is not None
    others = [replace(member, digest="0" * 64) for member in job.sources]
    assert proven_members(workspace.latents, replace(job, sources=others)) is None


def test_an_encoder_killed_in_a_run_leaves_nothing_that_counts(workspace, dataset, makers):
    encode_dataset(HERE, workspace)
    clean = contents(workspace.latents)
    for path in workspace.latents.iterdir():
        path.unlink()
    jobs = plan_jobs(dataset, makers)
    script = (
        "import sys, os, signal; from pathlib import Path; import data.encode_shard as e;"
        "from data.encode_plan import plan_jobs;"
        "from data.workspace import Workspace;"
        "from data.manifest import Dataset; w = Workspace(Path(sys.argv[1])); s = Dataset.open(w.shards);"
        "m = {'autoencoder': sys.argv[2], 'text_encoder': sys.argv[3]}; jobs = plan_jobs(s, m);"
        "enc = e.ShardEncoder(e.EncodeConfig(batch_size=2, text_batch_size=3, num_threads=1), w); enc.encode(jobs[0]);"
        "write = e.write_tar;"
        "e.write_tar = lambda path, members: write(path, (pair if i == 0 else os.kill(os.getpid(), signal.SIGKILL)"
        " for i, pair in enumerate(members))); enc.encode(jobs[1])"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(workspace.root), *makers.values()], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (workspace.latents / jobs[0].name).read_bytes() == clean[jobs[0].name]
    assert len(list(workspace.latents.glob("*.tar"))) == 1
    assert list(workspace.latents.glob(".*.part"))
    with pytest.raises(ShardError, match="no finished dataset"):
        Dataset.open(workspace.latents)
    assert encode_dataset(HERE, workspace).gave["shards_written"] == len(jobs) - 1
    assert contents(workspace.latents) == clean


def test_a_clip_of_another_size_than_its_bucket_is_refused(workspace, dataset):
    member = dataset.group("video")[0]
    with pytest.raises(ShardError, match=r"bucket 64x64x16 decodes to T H W \(8, 32, 16\)"):
        decode_clip(read_member(workspace.shards, member), "64x64x16")


def test_more_actors_than_cpus_are_refused(workspace, dataset):
    with pytest.raises(ConfigError, match="num_actors=3 does not fit 2 CPUs"):
        encode_dataset(RAY.model_copy(update={"num_actors": 3}), workspace)


def test_without_shards_or_weights_there_is_nothing_to_encode(workspace, dataset):
    for path in workspace.autoencoder.iterdir():
        path.unlink()
    with pytest.raises(CheckpointError, match=r"no \.safetensors"):
        encode_dataset(HERE, workspace)
    retract(workspace.shards)
    with pytest.raises(ShardError, match="no finished dataset"):
        encode_dataset(HERE, workspace)

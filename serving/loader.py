"""A registered version to a model that can render, with the facts that clients must know of it."""

import json
from collections.abc import Callable
from pathlib import Path

from model.errors import CheckpointError, RegistryError
from model.facts import PipelineFacts
from model.pipeline import SkyloomPipeline
from model.shapes import Compression
from model.weights import FACTS_FILE
from serving.engine import LoadedModel
from serving.limits import ModelFacts
from serving.registry import RegisteredModel

Fetch = Callable[[RegisteredModel, str], Path]
"""The local path of one file of a version."""


def load_model(model: RegisteredModel, folder: Path) -> LoadedModel:
    """The pipeline in a version's folder, whole in memory, and its facts.

    Raises:
        RegistryError: the weights are not those that the registry names.
        CheckpointError: the folder is no Skyloom model or is damaged.
    """
    pipeline = SkyloomPipeline.from_pretrained(folder)
    facts = _facts_of(model, pipeline.facts, pipeline.transformer.patch_size)
    _ = pipeline.text_encoder  # loaded at first use otherwise, and the first client would wait for it
    return LoadedModel(pipeline, facts)


def read_facts(model: RegisteredModel, fetch: Fetch) -> ModelFacts:
    """What a version can make, from its small files alone: the weights stay where they are.

    Raises:
        RegistryError: the files are gone, or are not those that the registry names.
        CheckpointError: the version is no Skyloom model.
    """
    try:
        own = PipelineFacts.model_validate_json(fetch(model, FACTS_FILE).read_text())
        transformer = json.loads(fetch(model, "transformer/config.json").read_text())
        return _facts_of(model, own, transformer["patch_size"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"{model.id} is no model of Skyloom ({error}); register a folder that it wrote"
        ) from error


def _facts_of(model: RegisteredModel, own: PipelineFacts, patch_size: int) -> ModelFacts:
    if model.weights_digest not in ("", own.weights_digest):
        raise RegistryError(
            f"{model.name} version {model.version} is registered with weights {model.weights_digest[:12]}, "
            f"but its folder holds {own.weights_digest[:12]}; register the model again"
        )
    compression = Compression()
    return ModelFacts(
        name=model.name,
        version=model.version,
        weights_digest=own.weights_digest,
        dataset_id=own.dataset_id,
        prompt_expander=own.prompt_expander,
        fps=own.fps,
        frame_step=compression.time,
        height_step=compression.height * patch_size,
        width_step=compression.width * patch_size,
        trained_buckets=tuple(own.trained_buckets),
        window_frames=own.window_frames // compression.time * compression.time,
        num_steps=own.default_num_steps,
        guidance_scale=own.default_guidance_scale,
    )

"""A registered version to a model that can render, with the facts that clients must know of it."""

from pathlib import Path

from model.errors import RegistryError
from model.pipeline import SkyloomPipeline
from serving.engine import LoadedModel
from serving.limits import ModelFacts
from serving.registry import RegisteredModel


def load_model(model: RegisteredModel, folder: Path) -> LoadedModel:
    """The pipeline in a version's folder, whole in memory, and its facts.

    Raises:
        RegistryError: the weights are not those that the registry names.
        CheckpointError: the folder is no Skyloom model or is damaged.
    """
    pipeline = SkyloomPipeline.from_pretrained(folder)
    own, compression = pipeline.facts, pipeline.compression
    if model.weights_digest not in ("", own.weights_digest):
        raise RegistryError(
            f"{model.name} version {model.version} is registered with weights {model.weights_digest[:12]}, "
            f"but {folder} holds {own.weights_digest[:12]}; register the model again"
        )
    _ = pipeline.text_encoder  # loaded at first use otherwise, and the first client would wait for it
    patch_size = pipeline.transformer.patch_size
    facts = ModelFacts(
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
        window_frames=pipeline.window * compression.time,
        num_steps=own.default_num_steps,
        guidance_scale=own.default_guidance_scale,
    )
    return LoadedModel(pipeline, facts)

"""What can caption a clip: Skyloom's captioner, any transformers image-text model, any OpenAI endpoint."""

import base64
import io
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openai
import torch
from openai import OpenAI
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from data.config import (
    BackendConfig,
    EndpointCaptionerConfig,
    TrainedCaptionerConfig,
    TransformersCaptionerConfig,
)
from data.video import read_frames
from data.workspace import Workspace
from model.captioner import STRUCTURE_KEYS, CaptionText, VideoCaptioner
from model.config import digest_of
from model.errors import StageError
from model.weights import weights_digest

logger = logging.getLogger(__name__)


class CaptionBackend(Protocol):
    """Anything that captions clips; `digest` names all that its captions depend on."""

    @property
    def digest(self) -> str:
        """What the captions come from (weights or model name, instruction, frames), as one digest."""
        ...

    def caption(self, clips: Sequence[Path]) -> list[CaptionText]:
        """One caption per clip file, in order; an empty `dense` says that the clip could not be captioned."""
        ...


def load_backend(config: BackendConfig, workspace: Workspace) -> CaptionBackend:
    """The backend that a configuration describes, with its weights loaded."""
    match config:
        case TrainedCaptionerConfig():
            return TrainedCaptioner(config.folder or workspace.captioner)
        case TransformersCaptionerConfig():
            return TransformersCaptioner(config)
        case EndpointCaptionerConfig():
            return EndpointCaptioner(config)


class TrainedCaptioner:
    """Captions by `model.captioner.VideoCaptioner`."""

    def __init__(self, folder: Path) -> None:
        self.digest = digest_of({"kind": "captioner", "weights": weights_digest(folder)})
        self._model = VideoCaptioner.from_pretrained(folder).eval()

    @torch.inference_mode()
    def caption(self, clips: Sequence[Path]) -> list[CaptionText]:
        """One caption per clip file, in order."""
        return self._model.caption([read_frames(clip) for clip in clips])


class TransformersCaptioner:
    """Captions by a transformers model, greedy, so that the same weights give the same words."""

    def __init__(self, config: TransformersCaptionerConfig) -> None:
        self._config = config
        revision = config.revision or "main"
        self._processor = AutoProcessor.from_pretrained(config.model, revision=revision)
        self._model: Any = AutoModelForImageTextToText.from_pretrained(
            config.model, revision=revision, use_safetensors=True
        )
        self._model.eval().to(config.device)
        if getattr(self._processor, "tokenizer", None) is not None:
            self._processor.tokenizer.padding_side = "left"  # answers continue the prompt, so padding goes before it
        asked = config.model_dump(mode="json", include={"instruction", "num_frames", "max_new_tokens"})
        self.digest = digest_of({"kind": "transformers", "weights": self._weights_name(), **asked})

    def _weights_name(self) -> str:
        folder = Path(self._config.model)
        if folder.is_dir():
            return weights_digest(folder)
        commit = getattr(self._model.config, "_commit_hash", None) or self._config.revision
        return f"{self._config.model}@{commit}"

    @torch.inference_mode()
    def caption(self, clips: Sequence[Path]) -> list[CaptionText]:
        """One caption per clip file, in order."""
        images = [pick_frames(read_frames(clip), self._config.num_frames) for clip in clips]
        inputs = self._processor(
            text=[self._prompt(len(frames)) for frames in images],
            images=images,
            padding=True,
            return_tensors="pt",
        ).to(self._config.device)
        answers = self._model.generate(**inputs, max_new_tokens=self._config.max_new_tokens, do_sample=False)
        answers = answers[:, inputs["input_ids"].shape[1] :]
        return [parse_answer(text) for text in self._processor.batch_decode(answers, skip_special_tokens=True)]

    def _prompt(self, num_images: int) -> str:
        content = [{"type": "image"}] * num_images + [{"type": "text", "text": self._config.instruction}]
        if getattr(self._processor, "chat_template", None):
            return self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
        image = getattr(self._processor, "image_token", "<image>")
        return image * num_images + self._config.instruction


class EndpointCaptioner:
    """Captions by chat completions; frames travel as `data:` JPEG, so the endpoint fetches nothing."""

    def __init__(self, config: EndpointCaptionerConfig) -> None:
        self._config = config
        # Not the address: the same model behind another port makes the same captions.
        asked = config.model_dump(mode="json", include={"model", "revision", "instruction", "num_frames", "max_tokens"})
        self.digest = digest_of({"kind": "endpoint", **asked})
        self._client = OpenAI(
            base_url=config.base_url,
            api_key=os.environ.get(config.api_key_variable) or "none",
            timeout=config.timeout_s,
            max_retries=config.max_retries,
        )

    def caption(self, clips: Sequence[Path]) -> list[CaptionText]:
        """One caption per clip file, in order.

        Raises:
            StageError: the endpoint is out of reach, refuses the key or does not know the model.
        """
        with ThreadPoolExecutor(self._config.num_connections) as pool:
            return list(pool.map(self._caption_one, clips))

    def _caption_one(self, clip: Path) -> CaptionText:
        frames = pick_frames(read_frames(clip), self._config.num_frames)
        content: list[Any] = [{"type": "image_url", "image_url": {"url": to_data_url(frame)}} for frame in frames]
        content.append({"type": "text", "text": self._config.instruction})
        try:
            answer = self._client.chat.completions.create(
                model=self._config.model,
                messages=[{"role": "user", "content": content}],
                max_tokens=self._config.max_tokens,
                temperature=0,
            )
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            logger.warning("%s: %s refuses %s: %s", self._config.base_url, self._config.model, clip.name, error)
            return CaptionText(short="", dense="", structured={})
        except openai.OpenAIError as error:
            raise StageError(
                f"the endpoint {self._config.base_url} fails for model {self._config.model!r} ({error}); "
                f"check the address, the model name and the key in ${self._config.api_key_variable}"
            ) from error
        return parse_answer(answer.choices[0].message.content or "")


def pick_frames(frames: np.ndarray, num_frames: int) -> list[Image.Image]:
    """At most `num_frames` pictures, evenly spaced, each from the middle of its share of the clip."""
    count = min(num_frames, len(frames))
    indices = ((np.arange(count) + 0.5) * len(frames) / count).astype(int)
    return [Image.fromarray(frames[index]) for index in indices]


def to_data_url(image: Image.Image) -> str:
    """The picture as a `data:` URL that holds a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def parse_answer(answer: str) -> CaptionText:
    """The caption in a model's answer: its JSON, or all of it as the dense caption where it has none.

    Broken or empty JSON (an answer cut short, say) gives the empty caption, which counts as a failure.
    """
    found = _json_object(answer)
    dense = _text(found.get("dense")) or _text(found.get("short"))
    if not dense and "{" not in answer:
        dense = _text(answer)
    short = _text(found.get("short")) or dense.partition(". ")[0].rstrip(".")
    given = found.get("structured")
    structured = {name: _text(given.get(name)) for name in STRUCTURE_KEYS} if isinstance(given, dict) else {}
    return CaptionText(short=short, dense=dense, structured={name: text for name, text in structured.items() if text})


def _json_object(answer: str) -> dict[str, Any]:
    start, end = answer.find("{"), answer.rfind("}")
    try:
        found = json.loads(answer[start : end + 1]) if start >= 0 else {}
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: object) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""

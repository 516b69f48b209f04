"""Language models that put short prompts into the captions' form: from transformers, or behind an endpoint."""

import os
from typing import Annotated, Any, Literal, TypeAlias

import openai
import torch
from openai import OpenAI
from pydantic import Field
from transformers import AutoModelForCausalLM, AutoTokenizer

from data.prompts import expander
from model.config import Config
from model.errors import StageError
from model.expander import Expander

INSTRUCTION = (
    "Rewrite the prompt of a video model as one dense caption: what is seen, its colours and sizes, how it moves, "
    "where, and what the camera does. Keep everything that the prompt says and add nothing that contradicts it. "
    "Answer with the caption alone."
)


class RulesConfig(Config):
    """The rules that the model's facts name."""

    kind: Literal["rules"] = "rules"


class TransformersRewriterConfig(Config):
    """Any causal language model that transformers loads."""

    kind: Literal["transformers"] = "transformers"
    model: str = Field(description="local folder or hub id")
    revision: str = Field(default="main", description="hub revision; pin a commit for words that can be repeated")
    instruction: str = Field(default=INSTRUCTION, description="what the model is asked")
    max_new_tokens: int = Field(default=96, ge=1, description="longest answer")


class EndpointRewriterConfig(Config):
    """Any OpenAI-compatible chat endpoint."""

    kind: Literal["endpoint"] = "endpoint"
    base_url: str = Field(description="address up to and including /v1")
    model: str = Field(description="model name that the endpoint serves")
    api_key_variable: str = Field(default="OPENAI_API_KEY", description="environment variable that holds the key")
    instruction: str = Field(default=INSTRUCTION, description="what the model is asked")
    max_tokens: int = Field(default=120, ge=1, description="longest answer")
    timeout_s: float = Field(default=60, gt=0, description="longest wait")


RewriterConfig: TypeAlias = Annotated[
    RulesConfig | TransformersRewriterConfig | EndpointRewriterConfig, Field(discriminator="kind")
]


def load_rewriter(config: RewriterConfig, rules: str) -> Expander:
    """What a configuration describes; `rules` is the name in the model's facts."""
    match config:
        case RulesConfig():
            return expander(rules)
        case TransformersRewriterConfig():
            return TransformersRewriter(config)
        case EndpointRewriterConfig():
            return EndpointRewriter(config)


class TransformersRewriter(Expander):
    """Rewrites greedily, so that the same weights give the same words."""

    def __init__(self, config: TransformersRewriterConfig) -> None:
        self._config = config
        self._tokenizer = AutoTokenizer.from_pretrained(config.model, revision=config.revision)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            config.model, revision=config.revision, use_safetensors=True
        ).eval()

    @torch.inference_mode()
    def __call__(self, prompt: str, like: str = "") -> str:
        """The caption, or the prompt itself where the model says nothing."""
        asked = f"{self._config.instruction}\n{_task(prompt, like)}"
        if self._tokenizer.chat_template:
            asked = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
            )
        inputs = self._tokenizer(asked, return_tensors="pt")
        answer = self._model.generate(**inputs, max_new_tokens=self._config.max_new_tokens, do_sample=False)
        text = self._tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return " ".join(text.split()) or prompt


class EndpointRewriter(Expander):
    """Rewrites by chat completions."""

    def __init__(self, config: EndpointRewriterConfig) -> None:
        self._config = config
        key = os.environ.get(config.api_key_variable) or "none"
        self._client = OpenAI(base_url=config.base_url, api_key=key, timeout=config.timeout_s)

    def __call__(self, prompt: str, like: str = "") -> str:
        """The caption, or the prompt itself where the model says nothing.

        Raises:
            StageError: the endpoint is out of reach, refuses the key or does not know the model.
        """
        config = self._config
        try:
            answer = self._client.chat.completions.create(
                model=config.model,
                messages=[
                    {"role": "system", "content": config.instruction},
                    {"role": "user", "content": _task(prompt, like)},
                ],
                max_tokens=config.max_tokens,
                temperature=0,
            )
        except openai.OpenAIError as error:
            raise StageError(
                f"the endpoint {config.base_url} fails for model {config.model!r} ({error}); check the address, the "
                f"model name and the key in ${config.api_key_variable}, or leave the prompt as it is with --no-expand"
            ) from error
        return " ".join((answer.choices[0].message.content or "").split()) or prompt


def _task(prompt: str, like: str) -> str:
    same = f"\nWhat it leaves open is as in: {like}" if like else ""
    return f"Prompt: {prompt}{same}"

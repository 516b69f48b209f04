"""Guard models behind an OpenAI-compatible address: how each kind is asked about a text or a picture, and answers."""

import base64
import io
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import httpx
import numpy as np
from PIL import Image

from model.errors import SkyloomError
from serving.config import GuardKind

MODERATION_UNAVAILABLE = "moderation_unavailable"
_TIMEOUT_S = 20.0
_MOST_TOKENS = 64
_ANSWER = re.compile(r"^\W*(?:safety:\s*)?(safe|unsafe|controversial|yes|no)\b", re.IGNORECASE)
"""Qwen3Guard says `Safety: Unsafe`, Llama Guard `unsafe`, ShieldGemma `Yes` where its policy is broken."""
_CATEGORY = re.compile(r"categor(?:y|ies):\s*([^\n]+)|\b(S\d{1,2})\b", re.IGNORECASE)


class GuardAwayError(SkyloomError, RuntimeError):
    """The guard model does not answer: what cannot be checked is not made, and may be asked for again."""


class Guard(NamedTuple):
    """A guard model: `moderations` speaks OpenAI's endpoint of that name, `chat` is a model that answers in words."""

    url: str
    model: str
    kind: GuardKind = "moderations"

    def judge_text(self, text: str) -> str | None:
        """The category that the text is refused for, or None.

        Raises:
            GuardAwayError: no answer came, or none that can be read.
        """
        return self._judge(text)

    def judge_frames(self, frames: Iterable[np.ndarray]) -> str | None:
        """The category that one of the frames, uint8 `H W C`, is refused for, or None.

        Raises:
            GuardAwayError: as `judge_text` does.
        """
        verdicts = (self._judge([{"type": "image_url", "image_url": {"url": _png_url(frame)}}]) for frame in frames)
        return next((category for category in verdicts if category), None)

    def _judge(self, content: str | list[dict[str, Any]]) -> str | None:
        try:
            if self.kind == "moderations":
                return _flagged(self._post("moderations", {"input": content})["results"][0])
            asked = {"messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": _MOST_TOKENS}
            return said(self._post("chat/completions", asked)["choices"][0]["message"]["content"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise GuardAwayError("The content check does not answer at the moment; try again later.") from error

    def _post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = httpx.post(f"{self.url.rstrip('/')}/{route}", json=body | {"model": self.model}, timeout=_TIMEOUT_S)
        reply.raise_for_status()
        return reply.json()


def said(answer: str) -> str | None:
    """The category that an answer in words refuses for, or None where it lets pass; `controversial` passes.

    Raises:
        ValueError: it says neither.
    """
    verdict = _ANSWER.match(answer)
    if verdict is None:
        raise ValueError(f"the guard model said {answer[:80]!r}")
    if verdict[1].lower() not in ("unsafe", "yes"):
        return None
    category = _CATEGORY.search(answer)
    return (category[1] or category[2]).strip() if category else "flagged"


def _flagged(result: dict[str, Any]) -> str | None:
    if not result["flagged"]:
        return None
    return next((name for name, is_flagged in result.get("categories", {}).items() if is_flagged), "flagged")


def _png_url(frame: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"

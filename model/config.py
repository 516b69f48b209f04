"""The base of every configuration: frozen, strict, with a digest."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A frozen configuration that refuses unknown fields; presets are functions that return one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def digest(self) -> str:
        """The sha256 of the canonical JSON, 64 hex digits: equal settings have equal digests."""
        return digest_of(self.model_dump(mode="json"))


def digest_of(value: Any) -> str:
    """The sha256 of a JSON value in canonical form (sorted keys, no spaces), 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

"""The durable table of characters: named clips that later videos begin from."""

import secrets
import time

from sqlalchemy.orm import Session

from model.shapes import VideoShape
from serving.tables import Character, open_database


class CharacterTable:
    """The characters of one server."""

    def __init__(self, url: str) -> None:
        self._engine = open_database(url)

    def create(self, name: str, upload: str, shape: VideoShape, owner: str = "") -> Character:
        """A new character."""
        character = Character(
            id=f"char_{secrets.token_hex(16)}", name=name, owner=owner, created_s=time.time(), upload=upload,
            num_frames=shape.num_frames, height=shape.height, width=shape.width,
        )  # fmt: skip
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(character)
        return character

    def get(self, character_id: str) -> Character | None:
        """The character, or None when there is none of that id."""
        with Session(self._engine, expire_on_commit=False) as session:
            return session.get(Character, character_id)

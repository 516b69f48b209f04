"""The durable table of characters: named clips that later videos begin from."""

import secrets
import time
from collections.abc import Sequence

from sqlalchemy import delete, func, select

from model.shapes import VideoShape
from serving.store.admission import TooManyError
from serving.store.database import Database
from serving.store.tables import Character

MOST_CHARACTERS = 1000  # of one owner


class CharacterTable:
    """The characters of one server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, upload: str, shape: VideoShape, owner: str) -> Character:
        """A new character.

        Raises:
            TooManyError: the owner has as many as anybody may have.
        """
        character = Character(
            id=f"char_{secrets.token_hex(16)}", name=name, owner=owner, created_s=time.time(), upload=upload,
            num_frames=shape.num_frames, height=shape.height, width=shape.width,
        )  # fmt: skip
        mine = select(func.count()).select_from(Character).where(Character.owner == owner)
        with self._database.write() as session:
            if (session.scalar(mine) or 0) >= MOST_CHARACTERS:
                raise TooManyError(f"There are {MOST_CHARACTERS} characters already; delete one first.")
            session.add(character)
        return character

    def get(self, character_id: str, owner: str) -> Character | None:
        """The owner's character, or None when there is none of that id."""
        with self._database.read() as session:
            mine = select(Character).where(Character.id == character_id, Character.owner == owner)
            return session.scalars(mine).one_or_none()

    def list(self, owner: str) -> Sequence[Character]:
        """The owner's characters, the newest first."""
        mine = select(Character).where(Character.owner == owner)
        with self._database.read() as session:
            return session.scalars(mine.order_by(Character.created_s.desc(), Character.id)).all()

    def delete(self, character: Character) -> None:
        """Forgets a character; its frames stay for the jobs that use them, then the janitor takes them."""
        with self._database.write() as session:
            session.execute(delete(Character).where(Character.id == character.id))

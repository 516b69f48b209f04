"""Pages of short listings, as the SDK's cursor pages want them: `after` is the id of the last item that was seen."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from serving.api.errors import invalid
from serving.store.tables import Character, WebhookEndpoint

RowT = TypeVar("RowT", Character, WebhookEndpoint)


class Cursor(NamedTuple):
    """Which page of a listing is asked for."""

    after: str | None
    limit: int


async def cursor_of(after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> Cursor:
    """The page that a request's query names."""
    return Cursor(after, limit)


UsesCursor = Annotated[Cursor, Depends(cursor_of)]


class PageEnds(BaseModel):
    """What every page says beside its rows."""

    has_more: bool
    first_id: str | None
    last_id: str | None


def cut(rows: Sequence[RowT], cursor: Cursor) -> tuple[Sequence[RowT], PageEnds]:
    """The rows of one page, and its ends.

    Raises:
        ApiError: 400 when `after` is none of the rows.
    """
    begin = 0
    if cursor.after is not None:
        places = {row.id: place for place, row in enumerate(rows, 1)}
        if cursor.after not in places:
            raise invalid(f"after={cursor.after[:80]!r} is in no listing of yours.", param="after")
        begin = places[cursor.after]
    page = rows[begin : begin + cursor.limit]
    first_id, last_id = (page[0].id, page[-1].id) if page else (None, None)
    return page, PageEnds(has_more=len(rows) > begin + cursor.limit, first_id=first_id, last_id=last_id)

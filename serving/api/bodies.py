"""Request bodies on their way in: bounded in size, in time, and in how many may be waited for at once."""

import asyncio

from starlette.types import Message, Receive

SLOWEST_BYTES_PER_S = 16_384
"""What a body must keep up after its first seconds: else one byte at a time would hold a place for hours."""

MOST_WAITED_FOR = 128
"""Under Serve a request that waits for its body costs some 300 KiB; one more than these, and the oldest must go."""


MOST_IN_HAND = 16
"""Bodies of the largest size that may be in memory at once, whole or not."""

SMALL_BYTES = 65_536
"""What a request without files may take whatever else is in memory."""


class TooManyBodiesError(Exception):
    """So much of others' bodies is in memory that no more is taken."""


class BodyTooLargeError(Exception):
    """A request body grew past its limit while it was read."""


class BodyTooSlowError(Exception):
    """A request body did not come in time."""


class BodyLimits:
    """What the bodies of one server may ask of it; knows which of them it waits for, the oldest first."""

    def __init__(self, *, max_bytes: int, timeout_s: float) -> None:
        self.max_bytes = max_bytes
        self.timeout_s = timeout_s
        self._waiting: dict[Body, None] = {}
        self._num_bytes = 0

    def begin_waiting(self, body: "Body") -> None:
        """Notes a body whose next piece is not there yet; gives up the oldest when there are too many."""
        self._waiting.setdefault(body)
        if len(self._waiting) > MOST_WAITED_FOR:
            oldest = next(iter(self._waiting))
            self.end(oldest)
            oldest.give_up()

    def end(self, body: "Body") -> None:
        """Waits no more for a body: it is whole, or its request has ended."""
        self._waiting.pop(body, None)

    def take(self, body: "Body", num_bytes: int) -> None:
        """Counts what has come of a body; where that is more than there may be, the largest that waits must go.

        Raises:
            TooManyBodiesError: none waits that is larger than this one, which is not small.
        """
        self._num_bytes += num_bytes
        if self._num_bytes <= MOST_IN_HAND * self.max_bytes or body.num_bytes <= SMALL_BYTES:
            return
        largest = max(self._waiting, key=lambda waiting: waiting.num_bytes, default=body)
        if largest.num_bytes <= body.num_bytes:
            raise TooManyBodiesError
        self.end(largest)
        largest.give_up()

    def drop(self, num_bytes: int) -> None:
        """Counts what is out of memory again."""
        self._num_bytes -= num_bytes


class Body:
    """One request body; neither its declared length nor its sender's patience is believed."""

    def __init__(self, receive: Receive, limits: BodyLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._due_s = asyncio.get_running_loop().time() + limits.timeout_s
        self.num_bytes = 0
        self._is_whole = False
        self._patience: asyncio.Timeout | None = None

    async def receive(self) -> Message:
        """The next message, as ASGI's `receive` gives it.

        Raises:
            BodyTooLargeError: more than the limit has come: a chunked body declares no length.
            BodyTooSlowError: it takes longer than its size excuses, or too many others wait as well.
            TooManyBodiesError: too much of others' is in memory.
        """
        if self._is_whole:  # what may still come is that the client leaves, and for that there is no hurry
            return await self._receive()
        message = await self._next_piece()
        num_bytes = len(message.get("body", b""))
        self.num_bytes += num_bytes
        self._limits.take(self, num_bytes)
        if self.num_bytes > self._limits.max_bytes:
            raise BodyTooLargeError
        self._is_whole = not message.get("more_body", False)
        if self._is_whole:
            self._limits.end(self)
        return message

    def end(self) -> None:
        """Its request has ended, and nobody needs it."""
        self._limits.end(self)
        self._limits.drop(self.num_bytes)

    def give_up(self) -> None:
        """Ends the wait for the next piece."""
        self._due_s = float("-inf")
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def _next_piece(self) -> Message:
        self._limits.begin_waiting(self)
        try:
            async with asyncio.timeout_at(self._due_s + self.num_bytes / SLOWEST_BYTES_PER_S) as self._patience:
                return await self._receive()
        except TimeoutError as error:
            raise BodyTooSlowError from error
        finally:
            self._patience = None

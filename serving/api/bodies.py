"""Request bodies on their way in: bounded in size, in time, and in how many may be waited for at once."""

import asyncio

from starlette.types import Message, Receive

SLOWEST_BYTES_PER_S = 16_384
"""What a body must keep up after its first seconds: else one byte at a time would hold a place for hours."""

MOST_WAITED_FOR = 128
"""Under Serve a request that waits for its body costs some 300 KiB; one more than these, and the oldest must go."""


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

    def begin_waiting(self, body: "Body") -> None:
        """Notes a body whose next piece is not there yet; gives up the oldest when there are too many."""
        self._waiting.setdefault(body)
        if len(self._waiting) > MOST_WAITED_FOR:
            oldest = next(iter(self._waiting))
            self.end(oldest)
            oldest.give_up()

    def end(self, body: "Body") -> None:
        """Forgets a body: it is whole, or its request has ended."""
        self._waiting.pop(body, None)


class Body:
    """One request body; neither its declared length nor its sender's patience is believed."""

    def __init__(self, receive: Receive, limits: BodyLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._due_s = asyncio.get_running_loop().time() + limits.timeout_s
        self._num_bytes = 0
        self._is_whole = False
        self._patience: asyncio.Timeout | None = None

    async def receive(self) -> Message:
        """The next message, as ASGI's `receive` gives it.

        Raises:
            BodyTooLargeError: more than the limit has come: a chunked body declares no length.
            BodyTooSlowError: it takes longer than its size excuses, or too many others wait as well.
        """
        if self._is_whole:  # what may still come is that the client leaves, and for that there is no hurry
            return await self._receive()
        message = await self._next_piece()
        self._num_bytes += len(message.get("body", b""))
        if self._num_bytes > self._limits.max_bytes:
            raise BodyTooLargeError
        self._is_whole = not message.get("more_body", False)
        if self._is_whole:
            self._limits.end(self)
        return message

    def give_up(self) -> None:
        """Ends the wait for the next piece."""
        self._due_s = float("-inf")
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def _next_piece(self) -> Message:
        self._limits.begin_waiting(self)
        try:
            async with asyncio.timeout_at(self._due_s + self._num_bytes / SLOWEST_BYTES_PER_S) as self._patience:
                return await self._receive()
        except TimeoutError as error:
            raise BodyTooSlowError from error
        finally:
            self._patience = None

"""A limit on the size of requests, whatever length they state."""

from __future__ import annotations

from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse


class BodyLimit:
    """ASGI middleware: a request of more than `most` bytes is refused with 413, and not read to its end.

    Args:
        app: the application behind it.
        most: bytes.
        sentence: of the refusal.
    """

    def __init__(self, app: Any, most: int, sentence: str) -> None:
        self.app, self.most, self.sentence = app, most, sentence

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = JSONResponse({"detail": self.sentence}, 413)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            await refusal(scope, receive, send)
            return
        read = 0

        async def counted_receive() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise HTTPException(413)  # the application may turn it into another status, so that is not relied on
            return message

        async def guarded_send(message: Any) -> None:
            if read <= self.most:
                await send(message)

        await self.app(scope, counted_receive, guarded_send)
        if read > self.most:
            await refusal(scope, receive, send)

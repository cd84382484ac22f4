"""The WebSocket `/live`: sound goes in as binary messages, predictions come out as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Callable

import numpy as np
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from pase_msa.errors import PaSEError
from pase_msa.serve.clips import ClipPredictor
from pase_msa.serve.hosts import same_origin
from pase_msa.serve.live import Message, ready
from pase_msa.serve.live_room import LiveRoom, RoomFull, Stream

LARGEST = 1 << 20
"""Bytes of a message, half a minute of sound."""
IDLE = 60.0
"""Seconds without any sound, after which a stream is ended."""
_UNREAD = 256  # messages that may wait for a client that does not read them
_NORMAL, _BAD_DATA, _POLICY, _FAULT, _LATER = 1000, 1007, 1008, 1011, 1013  # RFC 6455 and its registry

#: by status of HTTP, the code of a WebSocket
_CODES = {403: _POLICY, 422: _POLICY, 503: _LATER}

# how files begin that are sent by mistake
_FILES = tuple(
    (re.compile(mark, re.DOTALL), kind)
    for mark, kind in (
        (rb"RIFF|RF64", "WAV or AVI"),
        (rb"OggS", "Ogg"),
        (rb"fLaC", "FLAC"),
        (rb"ID3", "MP3"),
        (rb"....ftyp", "MP4 or M4A"),
        (rb"\x1aE\xdf\xa3", "Matroska or WebM"),
        (rb"FORM....AIF", "AIFF"),
        (rb"caff|\.snd|#!AMR|FLV", "CAF, AU, AMR or FLV"),
    )
)


def quiet_refusals() -> None:
    """Keep uvicorn from logging an error for every stream that is refused by a status (0.54 does)."""
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing handshake" not in record.getMessage()
    )


def add_live(
    app: FastAPI,
    room: LiveRoom | None,
    predictor: ClipPredictor | None,
    *,
    absent: str = "",
    observe: Callable[[Message], None] = lambda message: None,
) -> None:
    """Add the WebSocket to an application.

    Args:
        app: the application.
        room: of the streams.
        predictor: gives the predictions; None for a model that takes no clips.
        absent: a sentence for the case that there is no room.
        observe: called with every message that goes out.
    """

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        if not same_origin(socket.headers):
            await _refuse(socket, 403, "A page of another server may not open this stream.")
            return
        if room is None or predictor is None:
            await _refuse(socket, 422, absent or "This server takes no streams.")
            return
        loop, outgoing = asyncio.get_running_loop(), asyncio.Queue[Message | None]()

        def put(message: Message | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(outgoing.put_nowait, message)

        def send(message: Message) -> None:
            observe(message)
            put(message)

        try:
            stream = room.enter(send, lambda: put(None))
        except RoomFull:
            await _refuse(socket, 503, f"There are {room.most} streams already, as many as may be; try again later.")
            return
        try:
            await socket.accept()
            await socket.send_json(ready(predictor))
            await _converse(socket, stream, outgoing)
        except WebSocketDisconnect:
            pass
        finally:
            stream.leave()


async def _converse(socket: WebSocket, stream: Stream, outgoing: asyncio.Queue[Message | None]) -> None:
    """Receive and send until the stream is over, or something is wrong."""
    receiving = asyncio.create_task(_receive(socket, stream, outgoing))
    sending = asyncio.create_task(_send(socket, outgoing))
    try:
        await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():
            wrong = receiving.exception()
            if isinstance(wrong, PaSEError):
                await _close(socket, _BAD_DATA, str(wrong))
                return
            if wrong is not None:
                raise wrong
            await sending  # what is left after the end of the sound
        elif sending.exception() is None:
            # the stream has left before its end
            await _close(socket, _FAULT, "The stream failed because of a fault in the server.")
            return
        error = sending.exception()
        if error is not None:
            raise error
        await socket.send_json({"type": "end"})
        await socket.close(_NORMAL)
    finally:
        for task in (receiving, sending):
            task.cancel()
        await asyncio.gather(receiving, sending, return_exceptions=True)


async def _receive(socket: WebSocket, stream: Stream, outgoing: asyncio.Queue[Message | None]) -> None:
    """Take sound until the client says that it ends."""
    first = True
    while True:
        try:
            message = await asyncio.wait_for(socket.receive(), IDLE)
        except TimeoutError:
            raise PaSEError(f"No sound came for {IDLE:g} s, so the stream was ended; open another one.") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", _NORMAL))
        if outgoing.qsize() > _UNREAD:
            raise PaSEError("The messages of the stream are not read; read them as they come.")
        content = message.get("bytes")
        if content is None:
            _check_end(message.get("text") or "")
            stream.end()
            return
        stream.feed(samples(content, first=first))
        first = first and not content


def samples(content: bytes, *, first: bool) -> np.ndarray:
    """Sound in a message, int16 [n].

    Args:
        content: s16le, mono, 16 kHz.
        first: whether it is the first of a stream, which might be a file by mistake.

    Errors:
        PaSEError: it is no such sound.
    """
    if len(content) % 2:
        raise PaSEError(
            f"Sound comes as 16-bit samples, found {len(content)} bytes, which is odd; send s16le, mono, 16 kHz."
        )
    if first and (kind := next((kind for mark, kind in _FILES if mark.match(content)), None)):
        raise PaSEError(
            f"Sound comes without a header, and this begins as a file of {kind} does; send s16le, mono, 16 kHz, "
            "for example of `ffmpeg -i FILE -ac 1 -ar 16000 -f s16le -`."
        )
    return np.frombuffer(content, "<i2")


def _check_end(text: str) -> None:
    with contextlib.suppress(ValueError):
        if json.loads(text) == {"type": "end"}:
            return
    raise PaSEError('A text message says {"type": "end"} and nothing else; send sound as binary messages.')


async def _send(socket: WebSocket, outgoing: asyncio.Queue[Message | None]) -> None:
    """Send messages until the stream has left."""
    while (message := await outgoing.get()) is not None:
        await socket.send_json(message)


async def _close(socket: WebSocket, code: int, sentence: str) -> None:
    """Say why, and close."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the client has gone
        await socket.send_json({"type": "error", "detail": sentence})
        await socket.close(code, sentence[:120])  # a reason has 123 bytes at most


async def _refuse(socket: WebSocket, status: int, sentence: str) -> None:
    """Refuse a stream: with a status, which a page in a browser cannot read and gets a message and a code for."""
    if "origin" in socket.headers or "websocket.http.response" not in socket.scope.get("extensions", {}):
        await socket.accept()
        await _close(socket, _CODES[status], sentence)
        return
    headers = {"Retry-After": "5"} if status == 503 else None
    await socket.send_denial_response(JSONResponse({"detail": sentence}, status, headers))

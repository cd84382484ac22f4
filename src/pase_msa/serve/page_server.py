"""The page's server: the page itself, recordings to listen to, and answers as files."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import logging
import mimetypes
import os
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse, Response

from pase_msa.errors import PaSEError
from pase_msa.files import strict_json
from pase_msa.media.timelines.files import write_timeline
from pase_msa.parallel import threads
from pase_msa.serve import page_parts
from pase_msa.serve.desk import Desk, Ticket
from pase_msa.serve.hosts import HostCheck, allowed_hosts
from pase_msa.serve.live_socket import LARGEST, add_live, quiet_refusals
from pase_msa.serve.outputs import to_json, write_result
from pase_msa.serve.page import Page, build
from pase_msa.serve.results import ClipResult
from pase_msa.serve.temporary import temporary_files
from pase_msa.serve.timeline import timeline_of
from pase_msa.serve.units import flat_rows, nested_rows, units_of

_OFTEN = 60.0  # seconds between two looks for what is to be forgotten
# what Gradio takes as `css` reaches its inner part only
_FRAME = (
    "@media (max-width: 600px) { .gradio-container { padding: 0 !important; } .main.app { padding: 6px !important; } "
    ".tab-container button { padding-left: .7rem !important; padding-right: .7rem !important; } }"
)
# a ticket's address is known to its user alone; what it gives is kept nowhere on the way
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_KINDS = {
    ".csv": "text/csv",
    ".eaf": "application/xml",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".srt": "application/x-subrip",
    ".vtt": "text/vtt",
}


def build_page_app(page: Page, *, max_megabytes: int, hosts: Sequence[str]) -> FastAPI:
    """The page as an application, with the addresses below `page.address`.

    Args:
        page: what it does.
        max_megabytes: largest upload.
        hosts: names by which it is reached.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget(page.desk))
        with threads(1):
            yield
        forgetting.cancel()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    add_answers(app, page)
    add_live(app, page.room, page.predictor)
    root = files("pase_msa.serve")
    fonts = ["system-ui", "sans-serif"]  # of the reader's own machine: nothing is fetched from elsewhere
    gr.mount_gradio_app(
        app,
        build(page),
        "/",
        max_file_size=f"{max_megabytes}mb",
        footer_links=[],
        ssr_mode=False,
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"], primary_hue="blue"),
        css=_text(root, "page.css"),
        head=f"<style>{_FRAME}</style><script>{_text(root, 'page.js')}{_text(root, 'live.js')}</script>",
    )
    app.add_middleware(HostCheck, allowed_hosts=list(hosts), www_redirect=False)
    return app


async def _forget(desk: Desk) -> None:
    while True:
        await asyncio.sleep(_OFTEN)
        desk.forget()


def _text(root: Any, name: str) -> str:
    return str(root.joinpath(name).read_text(encoding="utf-8"))


def add_answers(app: FastAPI, page: Page) -> None:
    """Add the addresses of recordings and answers to an application."""

    @app.get(f"{page.address}/clip/{{id}}")
    def clip(id: str, request: Request) -> Response:
        """The recording of a ticket, or the part of it that a player asks for."""
        ticket = page.desk.find(id)
        media = ticket.readings[0].media if ticket is not None else None
        if ticket is None or media is None:
            raise HTTPException(404, "This recording is no longer kept.")
        kind = mimetypes.guess_type(ticket.readings[0].name)[0] or ""
        if not kind.startswith(("video/", "audio/")):
            kind = "application/octet-stream"
        return _part(media, request.headers.get("range"), kind)

    @app.get(f"{page.address}/answer/{{id}}/{{file}}")
    def answer(id: str, file: str) -> Response:
        """An answer as a file: the number of the recording, or "all", and the ending."""
        ticket = page.desk.find(id)
        stem, dot, ending = file.partition(".")
        if ticket is None or not ticket.done:
            raise HTTPException(404, "This answer is no longer kept, or is not there yet.")
        try:
            name, content = answer_file(ticket, stem, dot + ending)
        except PaSEError as error:
            return PlainTextResponse(str(error), 422, _HEADERS)
        plain = re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)
        # the name as it is, and one in ASCII for what cannot read that (RFC 6266)
        named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
        headers = {**_HEADERS, "Content-Disposition": named}
        return Response(content, headers=headers, media_type=_KINDS.get(dot + ending, "text/plain"))


def answer_file(ticket: Ticket, which: str, ending: str) -> tuple[str, bytes]:
    """Name and content of an answer as a file.

    Args:
        ticket: whose answer it is.
        which: number of the recording, or "all".
        ending: one of `page_parts.ENDINGS`, and of `page_parts.TABLES` for all.

    Errors:
        PaSEError: there is no such recording or ending.
    """
    if which == "all" and ending in page_parts.TABLES:
        return f"results{ending}", _all(ticket, ending).encode()
    number = int(which) if which.isdecimal() and len(which) < 4 else -1
    result = ticket.readings[number].result if 0 <= number < len(ticket.readings) else None
    if result is None or ending not in page_parts.endings_of(result):
        raise PaSEError(f"There is no file {which}{ending} of this answer; take one of the links beside it.")
    with tempfile.TemporaryDirectory(prefix="pase_answer_") as folder:
        target = Path(folder) / f"answer{ending}"
        units = units_of(result, "utterance")
        if ending in page_parts.TABLES:
            write_result(target, result, "utterance", units)
        else:
            # the recording lies beside the file, wherever its user puts them
            media = Path(folder) / ticket.readings[number].name
            write_timeline(target, timeline_of(result, units, media=media, duration=result.duration))
        content = target.read_bytes().replace(f"{Path(folder).resolve().as_uri()}/".encode(), b"file:///")
    return f"{Path(result.name).stem}{ending}", content


def _all(ticket: Ticket, ending: str) -> str:
    """All results of a ticket in one table; a recording that failed has a sentence in a column of its own."""
    results = [reading.result for reading in ticket.readings if reading.result is not None]
    if ending == ".json":
        return strict_json([to_json(result, "utterance", ()) for result in results]) + "\n"
    if ending == ".jsonl":
        return "".join(strict_json(row) + "\n" for result in results for row in _nested(result))
    rows: list[dict[str, Any]] = []
    for reading in ticket.readings:
        if reading.result is None:
            rows.append({"clip": reading.name, "problem": reading.sentence})
        else:
            rows += flat_rows(reading.result.name, units_of(reading.result, "utterance"))
    columns = list(dict.fromkeys(column for row in sorted(rows, key=len, reverse=True) for column in row))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _nested(result: ClipResult) -> list[dict[str, Any]]:
    return nested_rows(result.name, "utterance", units_of(result, "utterance"))


def _part(content: bytes, wanted: str | None, kind: str) -> Response:
    """Bytes, or the range of them that a player asks for (RFC 9110, section 14)."""
    headers = {**_HEADERS, "Accept-Ranges": "bytes"}
    found = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", wanted or "")
    if found is None or not any(found.groups()):
        return Response(content, headers=headers, media_type=kind)
    first, last = found.groups()
    size = len(content)
    begin = int(first) if first else max(0, size - int(last))
    end = min(size - 1, int(last)) if first and last else size - 1
    if begin > end:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
    return Response(content[begin : end + 1], 206, headers, kind)


class _Announced(uvicorn.Server):
    """A server that says when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        print(f"the page is at http://{self.config.host}:{sockets[0].getsockname()[1]} (Ctrl+C stops it)", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # a browser that looks at the page has a connection open, whose end is no fault to be logged
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def launch(
    run: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_seconds: float = 600.0,
    max_megabytes: int = 200,
    further_hosts: Sequence[str] = (),
    modalities: Sequence[str] | None = None,
) -> None:
    """Serve the page until it is stopped.

    Args:
        run: run folder, or a folder with a saved model.
        host: address to listen on.
        port: to listen on.
        max_seconds: longest clip.
        max_megabytes: largest upload.
        further_hosts: names by which the page is reached, beside this machine's own.
        modalities: to read; all that the model reads if None.

    Errors:
        PaSEError: there is no model, or a name that is none.
        OSError: the port is taken.
    """
    hosts = allowed_hosts(host, further_hosts)
    # first, so that a taken port is found before the networks are loaded
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=128) as listener, temporary_files() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "uploads")  # read when components are made
        os.environ["GRADIO_RUN_HISTORY"] = "False"  # it would keep answers in the browser
        page = Page(run, max_seconds, modalities=modalities)
        try:
            app = build_page_app(page, max_megabytes=max_megabytes, hosts=hosts)
            config = uvicorn.Config(
                app,
                host=host,
                port=port,
                log_level="warning",
                ws_max_size=LARGEST,
                ws_per_message_deflate=False,  # sound does not get smaller by it
                timeout_graceful_shutdown=2,
            )
            quiet_refusals()
            _Announced(config).run(sockets=[listener])
        finally:
            page.close()

"""`pase predict RUN CLIP`, `pase demo` and `pase serve`."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pase_msa.errors import PaSEError

if TYPE_CHECKING:
    from pase_msa.serve.answers import ClipAnswer


def predict_clip(
    run: str, clip: str | None, text: str | None, without: list[str], out: str | None, *, as_json: bool
) -> None:
    """Answer one clip: a summary, with `as_json` one JSON object; in a file JSON, or CSV with a line an utterance."""
    from pase_msa.serve.clips import ClipPredictor, as_rows
    from pase_msa.serve.summary import render_answer

    answer = one_thread(lambda: ClipPredictor(run).predict(clip, text, without=without))
    if out is None:
        print(_json(answer) if as_json else render_answer(answer))
        return
    stream = io.StringIO(newline="")
    if as_json:
        stream.write(_json(answer) + "\n")
    else:
        rows = as_rows(answer)
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(stream.getvalue(), newline="")
    os.replace(partial, target)
    print(f"{len(answer.utterances)} utterances in {target}", file=sys.stderr)


def demo(
    run: str, host: str = "127.0.0.1", port: int = 7860, max_seconds: float = 600.0, max_megabytes: int = 200
) -> None:
    """Open a page in which clips are answered.

    Args:
        run: run folder, or a folder with a saved model; clips in RUN/examples are offered.
        host: address to listen on; 0.0.0.0 lets other machines in.
        port: to listen on.
        max_seconds: longest clip.
        max_megabytes: largest upload.
    """
    _need("gradio", "demo")
    from pase_msa.serve.page import launch

    launch(run, host=host, port=port, max_seconds=max_seconds, max_megabytes=max_megabytes)


def serve(
    run: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_seconds: float = 120.0,
    max_megabytes: float = 50.0,
    clips: int = 1,
    waiting: int = 4,
    batch: int = 32,
    wait: float = 0.005,
    queue: int = 256,
) -> None:
    """Serve a model over HTTP: clips and features in, answers out.

    Args:
        run: run folder, or a folder with a saved model.
        host: address to listen on; 0.0.0.0 lets other machines in.
        port: to listen on.
        max_seconds: longest clip.
        max_megabytes: largest request.
        clips: that are read at the same time; each takes a core, and the first of each some memory.
        waiting: clips that may wait; further ones are told to come back (503).
        batch: most utterances of features that are predicted together.
        wait: seconds that the first of them waits for others.
        queue: utterances of features that may wait; further ones are told to come back (503).
    """
    _need("fastapi", "demo")
    _need("uvicorn", "demo")
    from pase_msa.serve.api import run_server
    from pase_msa.serve.limits import Limits

    limits = Limits(max_seconds, max_megabytes, clips, waiting, batch, wait, queue)
    run_server(run, limits, host=host, port=port)


def one_thread(call: Any) -> Any:
    """Run with one torch thread: the networks here are small, and threads would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return call()
    finally:
        torch.set_num_threads(before)


def _json(answer: ClipAnswer) -> str:
    return json.dumps(answer.to_dict())


def _need(module: str, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise PaSEError(
            f"This needs the package {module}, which is not installed; run `make media`, or install "
            f"'pase-msa[{extra}]'."
        ) from error

"""`pase predict RUN CLIP`, `pase demo` and `pase serve`."""

from __future__ import annotations

import csv
import importlib
import io
import sys
from pathlib import Path

from pase_msa.errors import PaSEError
from pase_msa.files import replacing, strict_json, write_text


def predict(
    run: str,
    clip: str | None = None,
    text: str | None = None,
    without: list[str] | None = None,
    data: str | None = None,
    out: str | None = None,
    split: str | None = None,
    json: bool = False,
) -> None:
    """Predict a clip, or features: score or label, confidence and contributions.

    Args:
        run: run folder, or a folder with a saved model.
        clip: video, audio or text file; `pase predict RUN FILE` says the same.
        text: transcript of the clip, or a text in place of one.
        without: modalities to withhold from a clip, divided by commas.
        data: features, in any format that `pase inspect` knows; no labels are needed.
        out: file to write; standard output if left out.
        split: of the features, predict this one only.
        json: JSON (of features: one object a line) instead of a summary or CSV.
    """
    from pase_msa.serve.predictor import Predictor, write_predictions

    if clip is not None or text is not None:
        if data is not None or split is not None:
            raise PaSEError("`pase predict` takes a clip or features; leave out --data and --split, or the clip.")
        _predict_clip(run, clip, text, without or [], out, as_json=json)
        return
    if data is None:
        raise PaSEError("`pase predict` needs a clip, or features: name a file after the run, or data with --data.")
    if without:
        raise PaSEError("--without withholds modalities from a clip; from data, leave their columns out.")
    predictions = Predictor(run).predict(data, split=split)
    if out is None:
        write_predictions(predictions, sys.stdout, as_json=json)
        return
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial, partial.open("w", newline="") as stream:
        count = write_predictions(predictions, stream, as_json=json)
    print(f"{count} predictions in {target}", file=sys.stderr)


def _predict_clip(
    run: str, clip: str | None, text: str | None, without: list[str], out: str | None, *, as_json: bool
) -> None:
    """Answer one clip: a summary, with `as_json` one JSON object; in a file JSON, or CSV with a line an utterance."""
    from pase_msa.serve.clips import ClipPredictor
    from pase_msa.serve.results import as_rows
    from pase_msa.serve.summary import render_result

    answer = ClipPredictor(run).predict(clip, text, without=without)
    if out is None:
        print(strict_json(answer.to_dict()) if as_json else render_result(answer))
        return
    stream = io.StringIO(newline="")
    if as_json:
        stream.write(strict_json(answer.to_dict()) + "\n")
    else:
        rows = as_rows(answer)
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, stream.getvalue())
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


def _need(module: str, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise PaSEError(
            f"This needs the package {module}, which is not installed; run `make media`, or install "
            f"'pase-msa[{extra}]'."
        ) from error

"""`pase predict`."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path


def predict(
    run: str,
    clip: str | None = None,
    *,
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
        clip: video, audio or text file.
        text: transcript of the clip, or a text in place of one.
        without: modalities of the clip to mask, divided by commas.
        data: features, in any format that PaSE reads; no labels are needed.
        out: file to write; standard output if left out.
        split: of the features, predict this one only.
        json: JSON (of features, one object per line) instead of a summary or CSV.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.files import check_out

    if out is not None:
        check_out(out)
    if clip is not None or text is not None:
        if data is not None or split is not None:
            raise PaSEError("`pase predict` takes a clip or features; leave out --data and --split, or the clip.")
        _predict_clip(run, clip, text, without or [], out, as_json=json)
        return
    if data is None:
        raise PaSEError("`pase predict` needs a clip, or features: name a file after the run, or data with --data.")
    if without:
        raise PaSEError("--without masks modalities of a clip; from data, leave their columns out.")
    _predict_features(run, data, split, out, as_json=json)


def _predict_features(run: str, data: str, split: str | None, out: str | None, *, as_json: bool) -> None:
    """Predict feature rows; CSV, or with `as_json` one JSON object per line."""
    from pase_msa.data.opening import open_data
    from pase_msa.files import make_folder, replacing
    from pase_msa.serve.predictor import Predictor, write_predictions
    from pase_msa.training.run_folder import RunFolder

    drawn = RunFolder(run).drawn_splits() if split is not None else None
    predictions = Predictor(run).predict(data if drawn is None else open_data(data, "auto", drawn), split=split)
    if out is None:
        write_predictions(predictions, sys.stdout, as_json=as_json)
        return
    make_folder(Path(out).parent)
    with replacing(Path(out)) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        count = write_predictions(predictions, stream, as_json=as_json)
    print(f"{count} predictions in {out}", file=sys.stderr)


def _predict_clip(
    run: str, clip: str | None, text: str | None, without: list[str], out: str | None, *, as_json: bool
) -> None:
    """Predict one clip: a summary on the terminal; in a file CSV with one line per utterance, or JSON."""
    from pase_msa.files import make_folder, strict_json, write_text
    from pase_msa.serve.clips import ClipPredictor
    from pase_msa.serve.results import as_rows
    from pase_msa.serve.summary import render_result

    prediction = ClipPredictor(run).predict(clip, text, without=without)
    if out is None:
        print(strict_json(prediction.to_dict()) if as_json else render_result(prediction))
        return
    stream = io.StringIO(newline="")
    if as_json:
        stream.write(strict_json(prediction.to_dict()) + "\n")
    else:
        rows = as_rows(prediction)
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    make_folder(Path(out).parent)
    write_text(Path(out), stream.getvalue())
    print(f"{len(prediction.utterances)} utterances in {out}", file=sys.stderr)

"""A language model predicts every utterance of a split from a prompt, and its answers are scored."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pase_msa.data.inputs import encode_labels, infer_task
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.language_models.answers import parse_answer
from pase_msa.language_models.choices import predict_by_choice
from pase_msa.language_models.endpoint import Chat, Endpoint, Reply
from pase_msa.language_models.kept import kept
from pase_msa.language_models.local import Local
from pase_msa.language_models.prompts import is_medium, messages
from pase_msa.metrics import Convention, classification_metrics, regression_metrics
from pase_msa.task import Task

_log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
_SILENCE = 4.0  # seconds without any answer after which that is said


def predict_split(
    table: FeatureTable,
    split: str,
    model: str,
    *,
    task: Task | None = None,
    label: str | None = None,
    base_url: str | None = None,
    key: str | None = None,
    shots: int = 0,
    seed: int = 0,
    limit: int | None = None,
    media: str | Path | None = None,
    gguf: str | None = None,
    choices: bool = False,
    max_tokens: int = 64,
    options: dict[str, Any] | None = None,
    concurrency: int = 4,
    retries: int = 6,
    pause: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Predict the labelled utterances of a split with a language model, at temperature 0.

    Every reply is written to the cache folder (`$PASE_CACHE`, or `~/.cache/pase-msa`) as it arrives, under a hash of
    server, model, conversation and options. A request whose reply is in the cache is not sent.

    Args:
        table: with transcripts.
        split: of the utterances; examples come from "train".
        model: name at the server, or a `transformers` folder or hub name.
        task: the prediction task; that of the label column if left out.
        label: label column; found if left out.
        base_url: of an OpenAI-compatible server, or "local" for `transformers` here, which a folder is by itself;
            `$OPENAI_BASE_URL`, else OpenAI's.
        key: of the server; `$OPENAI_API_KEY` if left out.
        shots: number of examples in the prompt, drawn from the training split.
        seed: of the examples, and of the utterances that `limit` leaves.
        limit: number of utterances, drawn at random; all of them if left out.
        media: folder with images, sounds or videos named by utterance (ID.jpg, ID.wav, ...), sent with the text.
        gguf: name of a GGUF file in the folder of the model; the only one there if left out.
        choices: grade all answers by their likelihood and calibrate them on validation, in place of a written answer;
            local models only.
        max_tokens: most tokens per answer.
        options: further fields of the request; None takes one out, such as {"temperature": None}.
        concurrency: requests under way at once.
        retries: tries after the first.
        pause: seconds before the second repetition, doubling.
        progress: called with the number of utterances that are done, and of all.

    Returns:
        One row per utterance: id, label, status ("answered", "refused", "unreadable", "out_of_range", or "empty" where
        there was nothing to send), value (score or class name, if any), prediction (the value, or else the mean or
        most frequent label of the training split), answer, finish, tokens_in, tokens_out, seconds, cached. With
        `choices` also what `predict_by_choice` adds, and no row for an utterance without text.

    Errors:
        PaSEError: no transcripts, no such split, or a server that does not answer or rejects the request.
    """
    task = task or infer_task(table, ("text",), label)
    files = _files(media)
    if table.texts is None and not files:
        raise PaSEError(
            "A language model reads transcripts, and the data have no text column; add one, or name --media."
        )
    labels = encode_labels(table, task, [*table.rows("train"), *table.rows(split)])
    rows = [row for row in table.rows(split).tolist() if np.isfinite(labels[row])]
    if not rows:
        raise PaSEError(f"The data have no utterance with a label {task.label!r} in the split {split!r}; name another.")
    for name, count in (("shots", shots), ("limit", limit)):
        if count is not None and count < (0 if name == "shots" else 1):
            raise PaSEError(f"The number of {name} cannot be {count}; give a larger one.")
    if concurrency < 1 or max_tokens < 1:
        raise PaSEError(f"concurrency and max_tokens are 1 or more, found {concurrency} and {max_tokens}.")
    rng = np.random.default_rng(seed)
    examples = _shots(table, task, labels, shots, rng)
    if limit is not None and limit < len(rows):
        rows = sorted(rng.choice(rows, limit, replace=False).tolist())
    body = {"temperature": 0, "max_tokens": max_tokens, **(options or {})}
    sent = {name: value for name, value in body.items() if value is not None}
    if base_url is None and Path(model).is_dir():
        base_url = "local"
    chat = _chat(model, base_url, key, sent, concurrency, retries, pause, gguf)
    about = {"model": model, "where": chat.where, "split": split, "shots": shots, "seed": seed, "limit": limit}
    about["task"] = task.to_dict()
    if choices:
        if not isinstance(chat, Local) or files:
            raise PaSEError("Choices are graded by a local model and from text; name a folder, and leave --media out.")
        held_out = _calibration_rows(table, task, split, limit, rng)
        texts = table.texts or [None] * len(table)
        with_text = [row for row in rows if (texts[row] or "").strip()]
        frame, calibration = predict_by_choice(table, with_text, held_out, chat, task, examples, progress)
        frame.attrs |= {**about, "media": 0, "calibration": calibration}
        return frame
    texts = table.texts or [None] * len(table)
    training = labels[table.rows("train")]
    training = training[np.isfinite(training)]
    # without an answer: the mean of the training labels, or the most frequent class
    fallback = float(training.mean() if task.values is not None else np.bincount(training.astype(int)).argmax())

    def row_of(row: int) -> dict[str, Any]:
        text = (texts[row] or "").strip()
        attached = files.get(table.ids[row], [])
        reply, cached, status, value = Reply("", "", 0, 0), True, "empty", None
        if text or attached:
            reply, cached = _cached_reply(chat, messages(task, text, examples, attached))
            answer = parse_answer(task, reply.text)
            status, value = answer.status, answer.value
            if reply.finish in ("refusal", "content_filter") and value is None:
                status = "refused"
        prediction = fallback if value is None else value
        return {
            "id": table.ids[row],
            "label": _label(task, labels[row]),
            "status": status,
            "value": None if value is None else _label(task, value),
            "prediction": _label(task, prediction),
            "answer": reply.text,
            "finish": reply.finish,
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
            "seconds": reply.seconds,
            "cached": cached,
        }

    entries = []
    pool = ThreadPoolExecutor(concurrency)
    try:
        with _waiting(chat.where) as answered:
            for entry in pool.map(row_of, rows):
                answered.set()
                entries.append(entry)
                if progress is not None:
                    progress(len(entries), len(rows))
    finally:
        pool.shutdown(cancel_futures=True)
    frame = pd.DataFrame(entries)
    frame.attrs |= {**about, "media": sum(table.ids[row] in files for row in rows)}
    return frame


def summary(
    frame: pd.DataFrame,
    task: Task,
    *,
    convention: Convention = "mmsa",
    price_in: float | None = None,
    price_out: float | None = None,
) -> dict[str, Any]:
    """Metrics, refusals and cost of the answers.

    Args:
        frame: what `predict_split` returns.
        task: the same as there.
        convention: how metrics are defined.
        price_in: price per million tokens of prompts.
        price_out: price per million tokens of answers.

    Returns:
        "metrics" of all utterances, where one without an answer counts as the training split's mean (or most frequent
        class); "answered_metrics" of those that were answered, None where none was; "counts" by status; "cut_off", the
        number of answers that `max_tokens` ended; "tokens_in", "tokens_out" (None where a server does not count) and
        "cost" of all replies, those from the cache included; "seconds" that they took (None where that was not
        measured); "calibration" of choices; "new_requests", the number of requests that were sent.
    """
    counts = {name: int(count) for name, count in frame["status"].value_counts().items()}
    answered = frame[frame["status"] == "answered"]
    tokens = {
        name: None if frame[name].isna().any() else int(frame[name].sum()) for name in ("tokens_in", "tokens_out")
    }
    tokens_in, tokens_out = tokens["tokens_in"], tokens["tokens_out"]
    cost = None
    if tokens_in is not None and tokens_out is not None and price_in is not None and price_out is not None:
        cost = (tokens_in * price_in + tokens_out * price_out) / 1e6
    return {
        **{name: frame.attrs.get(name) for name in ("model", "where", "split", "shots", "seed", "limit", "media")},
        "count": len(frame),
        "metrics": _metrics(frame, task, convention),
        "answered_metrics": _metrics(answered, task, convention) if len(answered) else None,
        "counts": {"answered": 0, "refused": 0, "unreadable": 0, "out_of_range": 0, "empty": 0} | counts,
        "cut_off": int((frame["finish"] == "length").sum()),
        **tokens,
        "cost": cost,
        "seconds": None if frame["seconds"].isna().any() else float(frame["seconds"].sum()),
        "calibration": frame.attrs.get("calibration"),
        "new_requests": int((~frame["cached"].astype(bool)).sum()),
    }


def _metrics(frame: pd.DataFrame, task: Task, convention: Convention) -> dict[str, Any]:
    predicted, truth = frame["prediction"].tolist(), frame["label"].tolist()
    if task.values is not None:
        return dict(regression_metrics(predicted, truth, task, convention))
    numbers = {name: number for number, name in enumerate(task.classes)}
    return classification_metrics([numbers[n] for n in predicted], [numbers[n] for n in truth], task.classes)


def _label(task: Task, value: float) -> float | str:
    return float(value) if task.values is not None else task.classes[int(value)]


def _shots(table: FeatureTable, task: Task, labels: Any, count: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Texts of the training split with their labels, written as an answer would be."""
    if not count:
        return []
    texts = table.texts or [None] * len(table)
    rows = [row for row in table.rows("train").tolist() if np.isfinite(labels[row]) and (texts[row] or "").strip()]
    if len(rows) < count:
        raise PaSEError(f"{count} examples were asked for; the training split has {len(rows)} texts with a label.")
    chosen = rng.choice(rows, count, replace=False).tolist()
    answers = [f"{labels[row]:g}" if task.values is not None else task.classes[int(labels[row])] for row in chosen]
    return [((texts[row] or "").strip(), answer) for row, answer in zip(chosen, answers, strict=True)]


def _calibration_rows(
    table: FeatureTable, task: Task, split: str, limit: int | None, rng: np.random.Generator
) -> list[int]:
    """Utterances on which a temperature is fitted: of validation, or of training where validation is tested."""
    other = "valid" if split != "valid" else "train"
    labels, texts = encode_labels(table, task, table.rows(other)), table.texts or [None] * len(table)
    rows = [row for row in table.rows(other).tolist() if np.isfinite(labels[row]) and (texts[row] or "").strip()]
    if limit is not None and limit < len(rows):
        rows = sorted(rng.choice(rows, limit, replace=False).tolist())
    return rows


def _files(folder: str | Path | None) -> dict[str, list[Path]]:
    """Media by utterance: files whose name, without its ending, is the id."""
    if folder is None:
        return {}
    root = Path(folder)
    media: dict[str, list[Path]] = {}
    for file in sorted(root.iterdir()) if root.is_dir() else []:
        if file.is_file() and is_medium(file):
            media.setdefault(file.stem, []).append(file)
    if not media:
        raise PaSEError(f"{root} was to be a folder of images, sounds or videos named by utterance; it holds none.")
    return media


def _chat(
    model: str,
    base_url: str | None,
    key: str | None,
    options: dict[str, Any],
    concurrency: int,
    retries: int,
    pause: float,
    gguf: str | None,
) -> Chat:
    where = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    if where == "local":
        return Local(model, options, gguf)
    if gguf is not None:
        raise PaSEError("A GGUF file is read from the folder of a local model; name the folder, without --base-url.")
    token = key if key is not None else os.environ.get("OPENAI_API_KEY")
    return Endpoint(model, where, options, token, retries, pause, connections=concurrency)


def _cached_reply(chat: Chat, conversation: Sequence[dict[str, Any]]) -> tuple[Reply, bool]:
    """The reply, from the cache or new, and whether it was in the cache."""
    request = [chat.where, chat.name, chat.options, list(conversation)]
    content, cached = kept(request, lambda: asdict(chat.complete(list(conversation))))
    try:
        return Reply(**content), cached
    except TypeError:  # a damaged one, which is asked for again
        return chat.complete(list(conversation)), False


@contextlib.contextmanager
def _waiting(where: str) -> Iterator[threading.Event]:
    """Say that nothing has come yet after some seconds, and again from time to time, until the event is set."""
    done, began = threading.Event(), time.monotonic()

    def watch() -> None:
        pause = _SILENCE
        while not done.wait(pause):
            _log.warning("no answer from %s after %.0f s; waiting", where, time.monotonic() - began)
            pause = 30.0

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        done.set()
        thread.join()

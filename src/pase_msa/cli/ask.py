"""`pase ask`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal

from pase_msa.errors import PaSEError
from pase_msa.files import replacing, strict_json


def ask(
    data: str | None = None,
    model: str | None = None,
    base_url: str | None = None,
    key_variable: str = "OPENAI_API_KEY",
    split: str = "test",
    label: str | None = None,
    shots: int = 0,
    seed: int = 0,
    limit: int | None = None,
    media: str | None = None,
    max_tokens: int = 64,
    options: dict[str, Any] | None = None,
    concurrency: int = 4,
    price_in: float | None = None,
    price_out: float | None = None,
    convention: Literal["mmsa", "mult", "pase"] = "mmsa",
    out: str | None = None,
    json: bool = False,
) -> None:
    """Ask a language model for the label of every utterance of a split: metrics, refusals, tokens, cost.

    Args:
        data: folder or file with transcripts, in any format that `pase inspect` knows.
        model: its name at the server, or a transformers folder or hub name.
        base_url: of an OpenAI-compatible server, or "local" for transformers here; $OPENAI_BASE_URL, else OpenAI's.
        key_variable: environment variable that holds the server's key.
        split: to ask about.
        label: label column; found if left out.
        shots: examples shown, drawn from the training split.
        seed: of the examples, and of the utterances that the limit leaves.
        limit: number of utterances, drawn at random; all if left out.
        media: folder with images, sounds or videos named by utterance id, shown beside the text.
        max_tokens: of an answer.
        options: further fields of the request, as JSON; null takes one out.
        concurrency: requests under way at once.
        price_in: of a million tokens read.
        price_out: of a million tokens written.
        convention: of the metrics.
        out: CSV file for the answers, one line an utterance.
        json: print one JSON object instead of a table.
    """
    import rich.console
    import rich.progress

    from pase_msa.data import open_table
    from pase_msa.language_models.asking import ask as ask_model
    from pase_msa.language_models.asking import summary
    from pase_msa.task import Task

    if data is None or model is None:
        raise PaSEError("`pase ask` needs data and a language model; name them with --data and --model.")
    with rich.progress.Progress(
        console=rich.console.Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        line = bar.add_task("asking", total=None)
        frame = ask_model(
            open_table(data),
            split,
            model,
            label=label,
            base_url=base_url,
            key=os.environ.get(key_variable, ""),
            shots=shots,
            seed=seed,
            limit=limit,
            media=media,
            max_tokens=max_tokens,
            options=options,
            concurrency=concurrency,
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )
    if out is not None:
        target = Path(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as partial:
            frame.to_csv(partial, index=False)
    found = summary(
        frame, Task.from_dict(frame.attrs["task"]), convention=convention, price_in=price_in, price_out=price_out
    )
    print(strict_json(found) if json else _table(found))


def _table(found: dict[str, Any]) -> str:
    counts = found["counts"]
    shown = {name: value for name, value in found["metrics"].items() if isinstance(value, float)}
    lines = [
        f"{found['model']}, {found['count']} utterances of the {found['split']} split, {found['shots']} examples, "
        + (f"media of {found['media']}" if found["media"] else "text only"),
        *(f"  {name:12s} {value:.4f}" for name, value in shown.items()),
        "answers: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count),
    ]
    if counts["answered"] < found["count"]:
        lines.append("utterances without an answer count as the training split's mean or most frequent class")
    if found["cut_off"]:
        lines.append(f"{found['cut_off']} answers were cut off; raise --max_tokens")
    if found["tokens_in"] is not None:
        cost = "" if found["cost"] is None else f", cost {found['cost']:.4f}"
        lines.append(f"tokens: {found['tokens_in']} read, {found['tokens_out']} written{cost}")
    lines.append(f"new requests: {found['new_requests']}")
    return "\n".join(lines)

"""`pase ask`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Literal


def ask(
    data: str | None = None,
    *,
    model: str | None = None,
    model_folder: str | None = None,
    gguf: str | None = None,
    choices: bool = False,
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
        data: folder or file with transcripts, in any format that PaSE reads.
        model: its name at the server, or a transformers folder or hub name.
        model_folder: folder of a transformers model on this machine, in place of model and base_url.
        gguf: name of a GGUF file in that folder; the only one there if left out.
        choices: of a local model, grade all answers by their likelihood and calibrate them on validation, in place of a
            written answer.
        base_url: URL of an OpenAI-compatible server, or "local" for transformers here; $OPENAI_BASE_URL, else OpenAI's.
        key_variable: environment variable that holds the server's key.
        split: the split whose utterances are put to the model.
        label: label column; found if left out.
        shots: number of examples in the prompt, drawn from the training split.
        seed: of the examples, and of the utterances that the limit leaves.
        limit: number of utterances, drawn at random; all if left out.
        media: folder with images, sounds or videos named by utterance id, sent with the text.
        max_tokens: most tokens per answer.
        options: further fields of the request, as JSON; null takes one out.
        concurrency: requests under way at once.
        price_in: price per million tokens of prompts.
        price_out: price per million tokens of answers.
        convention: how metrics are defined.
        out: CSV file for the answers, one line per utterance.
        json: print one JSON object instead of a table.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.files import check_out, make_folder, replacing, strict_json

    if model_folder is not None:
        if model is not None or base_url is not None:
            raise PaSEError("--model-folder is a model on this machine; leave out --model and --base-url, or it.")
        model, base_url = model_folder, "local"
    if data is None or model is None:
        raise PaSEError(
            "`pase ask` needs data and a language model; name them with --data and --model (or --model-folder)."
        )
    if out is not None:
        check_out(out)
    import rich.console
    import rich.progress

    from pase_msa.data import open_table
    from pase_msa.language_models.prediction import predict_split, summary
    from pase_msa.task import Task

    with rich.progress.Progress(
        console=rich.console.Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        line = bar.add_task("asking", total=None)
        frame = predict_split(
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
            gguf=gguf,
            choices=choices,
            max_tokens=max_tokens,
            options=options,
            concurrency=concurrency,
            progress=lambda done, total: bar.update(line, completed=done, total=total),
        )
    if out is not None:
        make_folder(Path(out).parent)
        with replacing(Path(out)) as partial:
            frame.to_csv(partial, index=False)
    result = summary(
        frame, Task.from_dict(frame.attrs["task"]), convention=convention, price_in=price_in, price_out=price_out
    )
    print(strict_json(result) if json else _render(result))


def _render(result: dict[str, Any]) -> str:
    """The summary for a terminal."""
    counts = result["counts"]
    metrics = {name: value for name, value in result["metrics"].items() if isinstance(value, float)}
    lines = [
        f"{result['model']}, {result['count']} utterances of the {result['split']} split, {result['shots']} examples, "
        + (f"media of {result['media']}" if result["media"] else "text only"),
        *(f"  {name:12s} {value:.4f}" for name, value in metrics.items()),
        "answers: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count),
    ]
    if counts["answered"] < result["count"]:
        lines.append("utterances without an answer count as the training split's mean or most frequent class")
    if result["cut_off"]:
        lines.append(f"{result['cut_off']} answers were cut off; raise --max-tokens")
    if result["tokens_in"] is not None:
        cost = "" if result["cost"] is None else f", cost {result['cost']:.4f}"
        lines.append(f"tokens: {result['tokens_in']} read, {result['tokens_out']} written{cost}")
    if result["seconds"] is not None:
        lines.append(
            f"seconds: {result['seconds']:.1f}, {result['seconds'] / max(result['count'], 1):.2f} per utterance"
        )
    if found := result["calibration"]:
        lines.append(
            f"calibrated on {found['count']} utterances: temperature {found['temperature']:.2f}, calibration error "
            f"{found['ece']:.3f} ({found['ece_uncalibrated']:.3f} without)"
        )
    lines.append(f"new requests: {result['new_requests']}")
    return "\n".join(lines)

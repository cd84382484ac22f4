"""A card in the form of the Hugging Face hub, from what a run has written. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pase_msa.cards import prose
from pase_msa.cards.weights import Network, networks
from pase_msa.files import read_text, write_text

CARD = "README.md"
_MARK = "<!-- Written by PaSE, which writes it anew with new results. Remove this line, and your own text stays. -->"
_MOST_GROUPS = 12
_METRICS = ("acc2_nonneg", "acc2_negpos", "f1_negpos", "acc7", "acc3", "mae", "corr", "accuracy", "ua", "f1_weighted")


@dataclass(frozen=True)
class RunFacts:
    """What a run has written, as plain containers.

    Attributes:
        name: of the run.
        config: its options.
        data: the description of its data, as in `data.json`.
        results: of training, as in `results.json`.
        evaluation: of the test split, as in `evaluation.json`; None before.
        intervals: by metric of the test split "value", "low" and "high" (95 %).
        groups: metrics of subgroups, as `subgroup_metrics` returns them, one per column.
        about: what its maker knows of the data, Markdown.
    """

    name: str
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    results: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None = None
    intervals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    groups: Sequence[Mapping[str, Any]] = ()
    about: str = ""


def model_card(model: Mapping[str, Any], run: RunFacts | None = None) -> str:
    """The card of a saved model, Markdown with YAML front matter.

    Args:
        model: the description of the model, as in its `config.json`.
        run: of the model; None where it was saved by itself, so that neither data nor results are known.
    """
    found = networks(model, None if run is None else run.config)
    name = "PaSE model" if run is None else run.name
    sections = [
        f"# {_cell(name)}",
        _what(model),
        *([run.about.strip()] if run is not None and run.about.strip() else []),
        "## Data\n\n" + ("Not known: the model was saved outside of a run." if run is None else _data(run)),
        "## Results\n\n" + _results(run),
        *([] if run is None else _groups(run)),
        "## Intended use\n\n" + prose.USE.strip(),
        "## Not intended\n\n" + prose.NO_USE.strip(),
        "## The law\n\n" + prose.LAW.strip(),
        "## Licence\n\n" + _licence(found),
        _MARK,
    ]
    return f"---\n{_front_matter(model, run, found)}\n---\n\n" + "\n\n".join(sections) + "\n"


def write_card(folder: Path, card: str) -> bool:
    """Write a card into the folder of a model; one that somebody has made their own is left as it is.

    Returns:
        Whether it was written.

    Errors:
        PaSEError: it cannot be written.
    """
    file = folder / CARD
    if file.is_file() and _MARK not in read_text(file):
        return False
    write_text(file, card)
    return True


def _front_matter(model: Mapping[str, Any], run: RunFacts | None, found: Sequence[Network]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    kind = model["task"]["kind"]
    results = []
    if run is not None and run.evaluation is not None:
        source = str(run.data["source"])
        for name, value in _shown(run.evaluation["metrics"]).items():
            row = run.intervals.get(name, {})
            ends = None if row.get("low") is None else {"interval_95": [round(row["low"], 4), round(row["high"], 4)]}
            results.append(
                EvalResult(kind, source, source, name, round(value, 4), dataset_split="test", metric_args=ends)
            )
    hubs = sorted({network.hub for network in found if network.hub})
    settings = (model.get("extraction") or {}).get("settings", {})
    data = ModelCardData(
        language=settings.get("language"),
        license="unknown",
        library_name="pase-msa",
        tags=["multimodal", "sentiment-analysis" if kind == "regression" else "emotion-recognition", *_names(model)],
        base_model=hubs or None,
        model_name=None if run is None else run.name,
        eval_results=results or None,
    )
    return data.to_yaml()


def _names(model: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in model["task"]["modalities"]]


def _what(model: Mapping[str, Any]) -> str:
    task, names = model["task"], ", ".join(_names(model))
    if task["kind"] == "regression":
        values = task["values"]
        predicts = f"a score, `{task['label']}` from {values[0]:g} to {values[-1]:g}"
    else:
        predicts = f"a class, `{task['label']}`: {', '.join(map(_cell, task['classes']))}"
    recipe = model["recipe"]["name"]
    return (
        f"The model `{recipe}` of PaSE. It reads {names} of an utterance and predicts {predicts}, with a calibrated "
        "confidence and the contribution of each modality. An absent modality is allowed."
    )


def _data(run: RunFacts) -> str:
    data = run.data
    counts = ", ".join(f"{count} {split}" for split, count in data["utterances"].items())
    made = " It is synthetic." if data.get("synthetic") else ""
    lines = [f"- **Data: {_cell(data['source'])}.**{made} {counts} utterances of {data['videos']} videos."]
    if data.get("note"):
        lines.append(f"- {_cell(data['note'])}")
    rule = run.config.get("split", "given")
    lines.append(
        "- Splits were drawn by PaSE, no video in two of them."
        if rule == "auto"
        else "- Splits are those of the data, no video in two of them."
    )
    lines.append("- Training set the weights, validation chose the epoch and the confidence, and test was read once.")
    lines.append(f"- Seed {run.config['seed']}; fingerprint of the data `{str(data['fingerprint'])[:16]}`.")
    return "\n".join(lines)


def _results(run: RunFacts | None) -> str:
    if run is None:
        return "Not known: the model was saved outside of a run."
    lines = []
    if run.evaluation is None:
        lines += ["The test split is not read yet (`pase evaluate`). On validation, which chose the epoch:", ""]
        lines += ["| metric | validation |", "| --- | --- |"]
        lines += [f"| {name} | {value:.3f} |" for name, value in _shown(run.results["validation"]).items()]
        return "\n".join(lines)
    count = run.evaluation["count"]
    lines.append(f"On the test split, {count} utterances, metrics of the convention `{run.evaluation['convention']}`:")
    lines += ["", "| metric | test | 95 % interval |", "| --- | --- | --- |"]
    for name, value in _shown(run.evaluation["metrics"]).items():
        lines.append(f"| {name} | {value:.3f} | {_interval(run.intervals.get(name, {}))} |")
    lines += ["", "Intervals draw whole videos anew. They say nothing of other data."]
    if error := (run.evaluation.get("calibration") or {}).get("ece"):
        lines.append(f"Stated and actual confidence differ by {error:.3f} on average (expected calibration error).")
    if shares := run.evaluation.get("contributions"):
        parts = ", ".join(f"{_cell(name)} {100 * row['share']:.0f} %" for name, row in shares.items())
        lines.append(f"Shares of the modalities in the predictions: {parts}.")
    return "\n".join(lines)


def _groups(run: RunFacts) -> Iterator[str]:
    """A section per column whose groups were measured, and a sentence where none was."""
    if run.evaluation is None:
        return
    if not run.groups:
        yield (
            "## By group\n\nThe data have no column such as speaker, sex, age or language, so **for whom the "
            "model works how well is not known**."
        )
    for result in run.groups:
        yield _group_section(result)


def _group_section(result: Mapping[str, Any]) -> str:
    main, groups = result["headline"], result["groups"]
    known = {name: row for name, row in groups.items() if row["metrics"][main]["value"] is not None}
    ordered = sorted(known, key=lambda name: known[name]["metrics"][main]["value"], reverse=main in ("mae",))
    lines = [f"## By {_cell(result['by'])}", ""]
    if len(ordered) > _MOST_GROUPS:
        lines += [f"The {_MOST_GROUPS} worst of {len(ordered)} groups:", ""]
        ordered = ordered[:_MOST_GROUPS]
    lines += [
        f"| {_cell(result['by'])} | utterances | videos | {main} | 95 % interval |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in ordered:
        row = known[name]
        value = row["metrics"][main]
        cells = [_cell(name), row["utterances"], row["videos"], f"{value['value']:.3f}", _interval(value)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    worst = result["worst"]
    lines += [
        "",
        f"Worst group: **{_cell(worst)}**." if worst is not None else "No group is large enough to be called worst.",
    ]
    return "\n".join(lines)


def _licence(found: Sequence[Network]) -> str:
    lines = [
        "The code is MIT. The weights are what training made of the data and of the networks below, and the terms of "
        "both hold for them: what was trained on data for research is for research.",
        "",
    ]
    if not found:
        return "\n".join([*lines, "No pretrained network is inside, and none is needed for features."])
    lines += ["| network | for | weights | licence of the weights |", "| --- | --- | --- | --- |"]
    lines += [f"| {_cell(n.name)} | {_cell(n.use)} | {n.place} | {_cell(n.licence)} |" for n in found]
    return "\n".join(lines)


def _shown(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(metrics[name]) for name in _METRICS if isinstance(metrics.get(name), int | float)}


def _interval(row: Mapping[str, Any]) -> str:
    return "one video" if row.get("low") is None else f"[{row['low']:.3f}, {row['high']:.3f}]"


def _cell(value: object) -> str:
    """A name from the data as text of a Markdown table: on one line, without signs that would end the cell."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")[:200]

"""What is wrong with a feature table, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pase_msa.data.table import SPLITS
from pase_msa.data.transcripts import LONGEST

Finding = tuple[Literal["error", "warning"], str]


def find_problems(report: dict[str, Any]) -> list[dict[str, str]]:
    """The problems in a report of `inspect_table`, errors first, each with a "severity" and a "message".

    An error is something that training refuses, or that makes its results mean nothing.
    """
    findings = [*_splits(report), *_leaks(report), *_modalities(report), *_labels(report), *_text(report)]
    findings.sort(key=lambda finding: finding[0] != "error")
    return [{"severity": severity, "message": message} for severity, message in findings]


def _splits(report: dict[str, Any]) -> Iterator[Finding]:
    splits = report["splits"]
    if videos := report["overlap"]:
        some = ", ".join(videos[:3]) + (" ..." if len(videos) > 3 else "")
        yield (
            "error",
            f"{len(videos)} videos are in more than one split ({some}), so results would be too good.",
        )
    if unknown := sorted(set(splits) - {*SPLITS, ""}):
        yield "error", f"Splits are called {', '.join(SPLITS)}, but here is {unknown[0]!r}."
    if not set(splits) & set(SPLITS):
        yield "warning", "The utterances are in no split, so nothing can be trained or measured on them yet."
        return
    if "train" not in splits:
        yield "warning", "There is no train split, so the table serves for evaluation and prediction only."
    elif "valid" not in splits:
        yield (
            "warning",
            "There is no valid split, so a model cannot be selected without looking at the test split.",
        )
    if "test" not in splits:
        yield "warning", "There is no test split."
    if "" in splits:
        yield "warning", f"{splits['']['utterances']} utterances are in no split and are left out."


def _leaks(report: dict[str, Any]) -> Iterator[Finding]:
    for sentence in report["leaks"]["labels"]:
        yield "error", f"{sentence}. Results with it mean nothing; leave it out."
    repeated = report["leaks"]["repeated"]
    if repeated["utterances"]:
        yield (
            "error",
            f"{repeated['utterances']} utterances stand in more than one split ({', '.join(repeated['example'])} are "
            "the same in everything), so results would be too good.",
        )


def _modalities(report: dict[str, Any]) -> Iterator[Finding]:
    if not report["modalities"] and not report["text"]:
        yield "error", "There is neither a modality nor text, so there is nothing to learn from."
    for name, part in report["modalities"].items():
        if not part["present"]:
            yield "error", f"{name} is absent from every utterance."
            continue
        rates = part["presence"]
        if "train" in rates and not rates["train"]:
            yield "error", f"{name} is absent from the whole train split, so nothing can be learnt from it."
        elif max(rates.values()) - min(rates.values()) > 0.2:
            rates_by_split = ", ".join(f"{split or 'none'} {rate:.0%}" for split, rate in rates.items())
            yield "warning", f"{name} is present in very different shares of the splits ({rates_by_split})."
        yield from _values(name, part)
        same = part["duplicates"]
        if same["across_splits"]:
            yield (
                "warning",
                (
                    f"{same['across_splits']} utterances have the very same {name} as one in another split "
                    f"({', '.join(same['example'])})."
                ),
            )
        elif same["utterances"] > part["present"] // 2 and part["present"] > 1:
            yield (
                "warning",
                f"{same['utterances']} of {part['present']} utterances share their {name} with another.",
            )


def _values(name: str, part: dict[str, Any]) -> Iterator[Finding]:
    broken, dim = part["nonfinite"], part["dim"]
    if broken["values"] == broken["total"]:
        yield "error", f"{name} holds no finite value."
        return
    if broken["values"]:
        yield (
            "warning",
            (
                f"{broken['values']} of {broken['total']} values of {name} are NaN or infinite, in "
                f"{broken['frames']} steps; training puts the mean of the train split in their place."
            ),
        )
    if part["constant"]["count"] == dim:
        yield "error", f"{name} is the same everywhere, so it carries no information."
    elif part["constant"]["count"]:
        yield "warning", f"{part['constant']['count']} of the {dim} dimensions of {name} never change."
    if part["extreme"]["dimensions"]:
        worst = part["extreme"]
        yield (
            "warning",
            (
                f"{worst['dimensions']} of the {dim} dimensions of {name} have extreme values; the farthest is "
                f"{worst['value']:.4g} in dimension {worst['dimension']} (utterance {worst['utterance']}), "
                f"{worst['deviations']:.4g} standard deviations of the others from its mean; training cuts such "
                "values off."
            ),
        )

    for split, shift in part.get("shifted", {}).items():
        (median, before), (spread, usual) = shift["median"], shift["spread"]
        yield (
            "warning",
            (
                f"{shift['dimensions']} of the {dim} dimensions of {name} have another unit or offset in {split} than "
                f"in train: dimension {shift['dimension']} is {median:.4g} +- {spread:.4g} there, {before:.4g} +- "
                f"{usual:.4g} in train; was {split} extracted in the same way?"
            ),
        )


def _labels(report: dict[str, Any]) -> Iterator[Finding]:
    if not report["labels"]:
        yield "warning", "There are no labels, so the table serves for prediction only."
    for name, part in report["labels"].items():
        if not part["known"]:
            yield "warning", f"The label {name} is unknown everywhere."
            continue
        if part["unknown"]:
            counts = ", ".join(f"{split or 'none'} {count}" for split, count in part["unknown_by_split"].items())
            yield "warning", f"The label {name} is unknown for {part['unknown']} utterances ({counts})."
        if part["like_ids"]:
            yield (
                "warning",
                f"The label {name} is another whole number or name for each utterance, as an id is; if it is one, "
                "take the column out.",
            )
        if part["distinct"] == 1:
            yield "error", f"The label {name} has the same value everywhere, so there is nothing to learn."
        train = part.get("by_split", {}).get("train")
        if train and (unseen := sorted(set(part["classes"]) - set(train))):
            yield (
                "warning",
                f"The label {name} has classes that the train split never shows: {', '.join(unseen)}.",
            )


def _text(report: dict[str, Any]) -> Iterator[Finding]:
    text = report["text"]
    if text is None:
        return
    if missing := report["utterances"] - text["utterances"]:
        yield "warning", f"{missing} utterances have no text."
    if text.get("long"):
        yield (
            "warning",
            f"{text['long']} of {text['utterances']} transcripts ({text['long'] / text['utterances']:.0%}) are surely "
            f"longer than {LONGEST} tokens, where training cuts texts off unless --text.max-length says otherwise.",
        )
    if text["upper_case"]:
        yield (
            "warning",
            "All text is in upper case; lower it for a language model (most never saw such text).",
        )

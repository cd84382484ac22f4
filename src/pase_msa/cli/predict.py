"""`pase predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from pase_msa.media.config import RecordingOptions
    from pase_msa.media.timelines.base import Segment

FURTHER = (
    "one command predicts one clip, so give each clip its own; many become a table by `pase extract`, which "
    "`pase predict RUN --data` reads."
)
UnitName = Literal["utterance", "word", "turn", "window"]


def predict(
    run: str,
    clip: str | None = None,
    *,
    text: str | None = None,
    segments: str | None = None,
    tiers: list[str] | None = None,
    speakers: str | None = None,
    speaker_names: list[str] | None = None,
    language: str | None = None,
    unit: UnitName = "utterance",
    window: float | None = None,
    stride: float | None = None,
    events: str | None = None,
    without: list[str] | None = None,
    modalities: list[str] | None = None,
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
        segments: timeline of the clip (.eaf, .TextGrid, .srt, .vtt) with its segments, speakers and transcripts.
        tiers: of the timeline to read, divided by commas; all that have times of their own if left out.
        speakers: who speaks when: auto finds how many there are by their voices, a number says it, channels is one
            speaker per channel of the sound; not asked if left out.
        speaker_names: of the speakers in the order in which they first talk, or of the channels, divided by commas.
        language: of the words, by a code such as de, or auto to detect it; that of the training if left out.
        unit: what is predicted; a turn is what one speaker says before another does, a word is predicted with its
            utterance.
        window: seconds of a window; 10 if left out.
        stride: seconds from one window to the next; half a window if left out.
        events: stretches to look for, such as "score > 1.5 for 5s" or "class == happy and confidence > 0.8", divided by
            semicolons.
        without: modalities of the clip to mask, divided by commas.
        modalities: to read, divided by commas, such as text; nothing else is extracted or used. All if left out.
        data: features, in any format that PaSE reads; no labels are needed.
        out: file to write, of a clip in the format of its ending (.csv, .json, .jsonl, .eaf, .TextGrid, .srt, .vtt);
            standard output if left out.
        split: of the features, predict this one only.
        json: JSON (of features, one object per line) instead of a summary or CSV.
    """
    from pase_msa.errors import PaSEError
    from pase_msa.files import check_out

    if out is not None:
        check_out(out)
    names = speaker_names or []
    request = ClipRequest(
        clip,
        text,
        segments,
        tiers or [],
        speakers,
        names,
        language,
        unit,
        window,
        stride,
        events,
        without or [],
        modalities,
    )
    if clip is not None or text is not None:
        if data is not None or split is not None:
            raise PaSEError("`pase predict` takes a clip or features; leave out --data and --split, or the clip.")
        request.check()
        _predict_clip(run, request, out, as_json=json)
        return
    if data is None:
        raise PaSEError("`pase predict` needs a clip, or features: name a file after the run, or data with --data.")
    if without:
        raise PaSEError("--without masks modalities of a clip; from data, leave their columns out.")
    if options := request.options():
        raise PaSEError(f"{options[0]} is about a clip, and rows of data are predicted one by one; leave it out.")
    _predict_features(run, data, split, out, modalities, as_json=json)


@dataclass(frozen=True)
class ClipRequest:
    """What to predict of which clip; the fields are the options of the command."""

    clip: str | None
    text: str | None
    segments: str | None
    tiers: list[str]
    speakers: str | None
    speaker_names: list[str]
    language: str | None
    unit: UnitName
    window: float | None
    stride: float | None
    events: str | None
    without: list[str]
    modalities: list[str] | None

    def options(self) -> list[str]:
        """The options that were given and that only a clip has."""
        given = {
            "--segments": self.segments,
            "--tiers": self.tiers,
            "--speakers": self.speakers,
            "--speaker-names": self.speaker_names,
            "--language": self.language,
            "--unit": self.unit != "utterance",
            "--window": self.window is not None,
            "--stride": self.stride is not None,
            "--events": self.events is not None,
        }
        return [option for option, value in given.items() if value]

    def check(self) -> None:
        """Refuse options that contradict each other, before anything is loaded.

        Errors:
            PaSEError: the sentence names both options.
        """
        from pase_msa.errors import PaSEError
        from pase_msa.serve.units import NO_SPEAKERS

        if self.segments is not None and (self.text is not None or self.unit == "window"):
            other = "--text" if self.text is not None else "--unit window"
            raise PaSEError(f"--segments and {other} both divide the clip; leave out one of them.")
        if self.unit == "window" and self.text is not None:
            raise PaSEError("Windows cut a recording, and the transcript of --text is of the whole; leave out one.")
        self.recording().check()
        if self.speakers is not None and (self.text is not None or self.unit == "window"):
            what = "the transcript of --text is of the whole" if self.text is not None else "--unit window does not"
            raise PaSEError(f"--speakers divides the clip where the speaker changes, and {what}; leave one out.")
        if self.unit == "turn" and self.segments is None and self.speakers is None:
            raise PaSEError(NO_SPEAKERS)
        if self.tiers and self.segments is None:
            raise PaSEError("--tiers chooses tiers of a timeline; name the timeline with --segments.")
        for option, value in (("--window", self.window), ("--stride", self.stride)):
            if value is not None and self.unit != "window":
                raise PaSEError(f"{option} is about windows, and the unit is {self.unit}; add --unit window.")

    def recording(self) -> RecordingOptions:
        """Who speaks, and in which language."""
        from pase_msa.media.config import RecordingOptions

        return RecordingOptions(self.speakers, self.speaker_names, self.language)

    def divided(self) -> list[Segment] | None:
        """The segments or windows of the clip; None where it is cut at pauses.

        Errors:
            PaSEError: the timeline or the clip cannot be read, or the windows have no length.
        """
        from pase_msa.media.decode import duration_of
        from pase_msa.media.timelines.files import read_segments
        from pase_msa.serve.units import windows

        if self.segments is not None:
            return read_segments(self.segments, self.tiers or None)
        if self.unit == "window" and self.clip is not None:
            return windows(duration_of(self.clip), 10.0 if self.window is None else self.window, self.stride)
        return None


def _predict_features(
    run: str, data: str, split: str | None, out: str | None, modalities: list[str] | None, *, as_json: bool
) -> None:
    """Predict feature rows; CSV, or with `as_json` one JSON object per line."""
    from pase_msa.data.opening import open_data
    from pase_msa.errors import PaSEError
    from pase_msa.files import make_folder, replacing
    from pase_msa.serve.predictor import Predictor, write_predictions
    from pase_msa.targets.names import target_folders
    from pase_msa.targets.prediction import TargetsPredictor, write_target_predictions
    from pase_msa.training.run_folder import RunFolder

    ending = "" if out is None else Path(out).suffix.lower()
    if ending in (".eaf", ".textgrid", ".srt", ".vtt") or (ending == ".json" and not as_json):
        raise PaSEError(
            f"Predictions of data are written as .csv or .jsonl, found --out {out}; end it in one of these."
        )
    as_json = as_json or ending == ".jsonl"
    drawn = RunFolder(run).drawn_splits() if split is not None else None
    source = data if drawn is None else open_data(data, "auto", drawn)
    write: Callable[[TextIO], int]
    if target_folders(run) is not None:
        rows = TargetsPredictor(run, modalities=modalities).predict(source, split=split)
        write = partial(write_target_predictions, rows, as_json=as_json)
    else:
        predictions = Predictor(run, modalities=modalities).predict(source, split=split)
        write = partial(write_predictions, predictions, as_json=as_json)
    if out is None:
        write(sys.stdout)
        return
    make_folder(Path(out).parent)
    with replacing(Path(out)) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as stream:
        count = write(stream)
    print(f"{count} predictions in {out}", file=sys.stderr)


def _predict_clip(run: str, request: ClipRequest, out: str | None, *, as_json: bool) -> None:
    """Predict one clip: a summary on the terminal, or a file in the format of its ending."""
    from pase_msa.files import strict_json
    from pase_msa.serve.clips import ClipPredictor
    from pase_msa.serve.events import find_events, parse_rules, render_events
    from pase_msa.serve.outputs import check_target, to_json, write_result
    from pase_msa.serve.summary import render_result
    from pase_msa.serve.units import units_of

    if out is not None:
        check_target(out, as_json=as_json)
    divided = request.divided()
    predictor = ClipPredictor(run, modalities=request.modalities)
    rules = [] if request.events is None else parse_rules(request.events, predictor.predictor.model.task)
    result = predictor.predict(
        request.clip, request.text, segments=divided, without=request.without, options=request.recording()
    )
    units = units_of(result, request.unit)
    events = find_events(units, rules) if rules else None
    listed = "" if events is None else render_events(events, rules)
    if out is not None:
        files = write_result(out, result, request.unit, units, events, clip=request.clip, as_json=as_json)
        kind = request.unit if len(units) == 1 else f"{request.unit}s"
        print(f"{len(units)} {kind} in {' and '.join(map(str, files))}", file=sys.stderr)
        for note in result.notes:  # most formats have no place for them
            print(f"note: {note}", file=sys.stderr)
    elif as_json:
        print(strict_json(to_json(result, request.unit, units, events)))
        return
    else:
        print(render_result(result, None if request.unit == "utterance" else units))
    if listed:
        print(listed)

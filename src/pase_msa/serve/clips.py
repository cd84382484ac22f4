"""From a clip to a result: extraction as in training, prediction, attribution by modality, by word and over time."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.inputs import TRANSIENT
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip, Word
from pase_msa.media.config import RecordingOptions
from pase_msa.media.pipeline import Extractor
from pase_msa.media.record import trained_languages
from pase_msa.media.timelines.base import Segment
from pase_msa.parallel import threads
from pase_msa.serve.pieces import Pieces, Progress, Report, finish
from pase_msa.serve.predictor import Prediction, Predictor, chosen_modalities
from pase_msa.serve.reading import Reader
from pase_msa.serve.results import ClipResult, CurvePoint, UtteranceResult, WordInfluence, overall, value_of
from pase_msa.shapley import attribution

_READINGS = 160  # of the text for the influence of its words, about; up to 8 words are exact, more are sampled orders
_POINTS = 16  # of the curve within an utterance, at most
_CLOSE = 1e-6  # seconds; times that differ by less are the same


class ClipPredictor:
    """A saved model that predicts clips. Its networks are loaded once; one clip is read at a time.

    Args:
        source: run folder, or a folder with a saved model.
        device: torch device of the model; extraction runs on the CPU.
        modalities: to read; nothing else is extracted from a clip, and the others are absent to the model. All that
            the model reads if None.

    Attributes:
        predictor: the model, which predicts from features.
        modalities: that are read, in the task's order.
        unread: those of the model that are not.
        extractor: makes features as in training.
        reads_before: whether the model reads what was said before an utterance, too.
        languages: of the utterances that it was trained on, the most frequent first; empty where they are not known.

    Errors:
        PaSEError: the model has no record of how its features were extracted, they cannot be extracted so here, or the
            model does not read the modalities.
    """

    def __init__(self, source: str | Path, device: str = "cpu", modalities: Sequence[str] | None = None) -> None:
        self.predictor = Predictor(source, device)
        model = self.predictor.model
        # a clip is predicted by itself, and what was said around it is not known
        known = tuple(name for name in model.task.modalities if model.inputs[name].context is None)
        self.modalities = chosen_modalities(known, modalities)
        self.unread = tuple(name for name in known if name not in self.modalities)
        if self.unread:
            self.predictor.modalities = self.modalities
        record = self.predictor.extraction
        if record is None:
            raise PaSEError(
                f"The model in {source} was trained on features without a record of their extraction, so it cannot "
                "read clips; train it on a table of `pase extract`, or give features with --data."
            )
        read = [name for name in self.modalities if model.inputs[name].text is None]
        if unknown := [name for name in read if name not in record["modalities"]]:
            raise PaSEError(
                f"The model reads {unknown[0]}, which its record of the extraction does not name; train it on a "
                "table of `pase extract`, or give features with --data."
            )
        # What is not read is not extracted. For transcripts alone the record needs an extractor, since an extraction
        # without any modality is refused, but it is not used.
        recorded = record["modalities"]
        some = "text" if "text" in recorded else next(iter(recorded))
        self.extractor = Extractor.from_record(
            {**record, "modalities": {name: recorded[name] for name in read or [some]}}
        )
        self.languages = trained_languages(record)
        if not read:
            self.extractor.extractors = {}
        self._reader = Reader(self.extractor, self.languages)
        self._dims = {name: model.inputs[name].dim for name in read}
        self._transcripts = len(read) < len(self.modalities)
        contexts = [spec.context for spec in model.inputs.values() if spec.context is not None]
        self.reads_before = any(context["mode"] == "before" for context in contexts)

    def predict(
        self,
        path: str | Path | None,
        text: str | None = None,
        *,
        segments: Sequence[Segment] | None = None,
        without: Collection[str] = (),
        words: bool = True,
        name: str | None = None,
        progress: Report | None = None,
        options: RecordingOptions | None = None,
    ) -> ClipResult:
        """Extract a clip and predict it.

        Args:
            path: video, audio or text file, told apart by content; None for text alone.
            text: the transcript, if it is known; the clip is then one utterance. Recognised if left out.
            segments: of the clip, each an utterance with its transcript and speaker where they are known; see
                `pase_msa.media.timelines`.
            without: modalities to mask.
            words: compute the influence of each word and the curve, which takes some more readings of the text.
            name: of the clip in the result; the file's if left out.
            progress: called as every stage of every utterance begins.
            options: who speaks, and in which language; neither is looked for if left out.

        Errors:
            PaSEError: the file cannot be read, has nothing that the model reads, or the options contradict each other.
        """
        clips = self.extract(path, text, segments=segments, progress=progress, options=options)
        title = name or (Path(path).name if path is not None else "text")
        return self.predict_utterances(clips, without=without, words=words, name=title, progress=progress)

    def extract(
        self,
        path: str | Path | None,
        text: str | None = None,
        *,
        segments: Sequence[Segment] | None = None,
        progress: Report | None = None,
        options: RecordingOptions | None = None,
    ) -> list[Clip]:
        """The utterances of a clip: its segments, if they are given, or what each speaker says, if that is asked.

        Otherwise a clip of more than 30 s without a text is cut at pauses, as `pase extract` cuts.
        """
        return finish(self.extract_pieces(path, text, segments=segments, progress=progress, options=options))

    def extract_pieces(
        self,
        path: str | Path | None,
        text: str | None = None,
        *,
        segments: Sequence[Segment] | None = None,
        progress: Report | None = None,
        options: RecordingOptions | None = None,
    ) -> Pieces[list[Clip]]:
        """`extract` in pieces, one utterance each."""
        return self._reader.pieces(path, text, segments=segments, progress=progress, options=options)

    def extract_sound(self, sound: Array, start: float) -> Clip:
        """An utterance whose sound is in memory, in the language of the training; see `Extractor.extract_sound`."""
        return self._reader.sound(sound, start)

    def predict_utterances(
        self,
        clips: Sequence[Clip],
        *,
        without: Collection[str] = (),
        words: bool = True,
        name: str = "The clip",
        progress: Report | None = None,
    ) -> ClipResult:
        """Predict utterances that `extract` gave; `without` may change from call to call.

        Args:
            clips: utterances of one clip, in order.
            without: modalities to mask.
            words: compute the influence of each word and the curve.
            name: of the clip.
            progress: called as the prediction of every utterance begins.

        Errors:
            PaSEError: `without` names an unknown modality or all of them, or no utterance has one of the others.
        """
        return finish(self.predict_pieces(clips, without=without, words=words, name=name, progress=progress))

    def predict_pieces(
        self,
        clips: Sequence[Clip],
        *,
        without: Collection[str] = (),
        words: bool = True,
        name: str = "The clip",
        progress: Report | None = None,
    ) -> Pieces[ClipResult]:
        """`predict_utterances` in pieces, one utterance each."""
        masked = [m for m in self.predictor.model.task.modalities if m in self.unread or m in without]
        self.check_masked(without)
        available = [self._available(clip, without) for clip in clips]
        if not any(available):
            raise PaSEError(self._nothing_to_read(name, clips, masked))
        results, spent = [], 0.0
        for number, (clip, used) in enumerate(zip(clips, available, strict=True)):
            if progress is not None:
                progress(Progress("predict", (1 + number / len(clips)) / 2, number + 1, len(clips)))
            began = time.perf_counter()
            with threads(1):
                results.append(self._utterance(clip, used, words))
            spent += time.perf_counter() - began
            yield
        seconds: dict[str, float] = {}
        for clip in clips:
            for stage, value in clip.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        seconds["predict"] = spent
        prediction, base = overall(name, results)
        ends = [clip.start + clip.duration for clip in clips if clip.duration is not None]
        languages = list(dict.fromkeys(clip.language for clip in clips if clip.language is not None))
        return ClipResult(name, max(ends, default=None), prediction, base, results, seconds, masked, languages)

    @threads(1)
    def predict_in_turn(self, clip: Clip, before: Sequence[Utterance] = ()) -> tuple[UtteranceResult, Utterance]:
        """An utterance among those that were said before it, without the influence of words.

        Args:
            clip: the utterance.
            before: what earlier calls returned for the utterances of the same conversation, in order.

        Returns:
            The result, and what the utterance is to those after it.

        Errors:
            PaSEError: the utterance has nothing that the model reads.
        """
        available = self._available(clip, ())
        if not available:
            raise PaSEError(self._nothing_to_read("The utterance", [clip], ()))
        result = self._utterance(clip, available, False, before)
        # a sequence counts by its mean over time, so no more of it is kept
        means = {name: utterance_mean(clip.features[name]) for name in available if name in self._dims}
        return result, Utterance(str(len(before)), "", "", {}, means, clip.text if self._transcripts else None)

    def check_masked(self, without: Collection[str]) -> None:
        """Refuse to mask what the model does not read, or everything.

        Errors:
            PaSEError: the sentence names the modalities.
        """
        if unknown := sorted(set(without) - set(self.modalities)):
            raise PaSEError(f"The model reads {', '.join(self.modalities)}, not {unknown[0]!r}; mask some of these.")
        if set(without) >= set(self.modalities):
            raise PaSEError(f"Nothing is left to predict from; mask fewer of {', '.join(self.modalities)}.")

    def _nothing_to_read(self, name: str, clips: Sequence[Clip], masked: Sequence[str]) -> str:
        """The sentence for a clip that has none of the modalities: what was looked for, and why it is absent."""
        missing = []
        for modality in self.modalities:
            if modality not in masked:  # of those that are read
                extractor = self.extractor.extractors.get(modality) if modality in self._dims else None
                missing.append(f"no {'words' if extractor is None else extractor.looks_for} for {modality}")
        others = f", and {', '.join(masked)} masked" if masked else ""
        notes = " ".join(dict.fromkeys(note for clip in clips for note in clip.notes))
        return f"{name} has nothing that the model reads: {', '.join(missing)}{others}. {notes}".strip()

    def _available(self, clip: Clip, without: Collection[str]) -> list[str]:
        """The model's modalities that an utterance has and that are not masked."""
        return [
            name
            for name in self.modalities
            if name not in without and (name in clip.features if name in self._dims else bool(clip.text))
        ]

    def _utterance(
        self, clip: Clip, available: list[str], words: bool, before: Sequence[Utterance] = ()
    ) -> UtteranceResult:
        """One utterance with the influence of its words and its curve.

        Both come from variants of the utterance that are predicted in the same pass: its text with some words only,
        and the utterance cut off at some moments.
        """
        uses_words = any(name not in self._dims or clip.tracks[name].by_word for name in available)
        coalitions, matrix = _word_coalitions(len(clip.words)) if words and uses_words and clip.words else ([], None)
        times = _curve_times(clip) if words else []
        # the last coalition is all words and the last time is the end: both are the utterance itself
        texts = [[clip.words[i] for i in sorted(coalition)] for coalition in coalitions[:-1]]
        texts += [[word for word in clip.words if word.end is None or word.end <= at + _CLOSE] for at in times[:-1]]
        variants = list(zip(self.extractor.reread(clip, texts), map(_text, texts), strict=True))
        for (features, _), at in zip(variants[len(texts) - len(times[:-1]) :], times, strict=False):
            _cut_off(features, clip, at)
        prediction, *others = self._predict([(clip.features, clip.text), *variants], available, before)
        value = value_of(prediction, prediction.label)
        values = [value_of(other, prediction.label) for other in others]
        split = max(0, len(coalitions) - 1)
        influences: list[float | None] = [0.0 if words else None] * len(clip.words)
        if matrix is not None:
            influences = (matrix @ np.array([*values[:split], value])).tolist()
        curve = [CurvePoint(*point) for point in zip(times, [*values[split:], value], strict=True)] if times else []
        return UtteranceResult(
            clip.start,
            None if clip.duration is None else clip.start + clip.duration,
            clip.text,
            prediction,
            value - sum(prediction.contributions.values()),
            [WordInfluence(w.text, w.start, w.end, change) for w, change in zip(clip.words, influences, strict=True)],
            curve,
            available,
            clip.notes,
            clip.speaker,
        )

    def _predict(
        self,
        variants: list[tuple[dict[str, Array], str | None]],
        available: list[str],
        before: Sequence[Utterance] = (),
    ) -> list[Prediction]:
        """One pass of the model over an utterance and its variants, each its features and its text."""
        dims = {name: dim for name, dim in self._dims.items() if before or name in available}
        texts = self._transcripts and (bool(before) or any(name not in self._dims for name in available))
        if not dims and not texts:
            # an utterance of a long clip that has no modality at all: the prediction without any modality
            dims = self._dims
        utterances = (
            Utterance(
                str(i),
                str(i),  # a variant is no context of another
                "",
                {},
                {name: features.get(name) for name in dims if name in available},
                text if texts and any(name not in self._dims for name in available) else None,
            )
            for i, (features, text) in enumerate(variants)
        )
        earlier = (
            Utterance(f"before {i}", "0", "", {}, {name: row.features.get(name) for name in dims}, row.text)
            for i, row in enumerate(before)
        )
        meta = {"extraction": self.extractor.record, TRANSIENT: True}
        table = FeatureTable.build(chain(earlier, utterances), Schema(dict(dims), {}, texts), meta=meta)
        return list(self.predictor.predict(table, empty=True, last=len(variants)))


def utterance_mean(values: Array) -> Array:
    """The mean of the finite values over time as one step, [1, D]; NaN where there is none."""
    finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean: Array = np.where(finite, values, 0.0).sum(0, dtype=np.float64) / finite.sum(0)
    return mean[None].astype(np.float32)


def _cut_off(features: dict[str, Array], clip: Clip, moment: float) -> None:
    """Drop the steps of sound and pictures that end after a moment."""
    for name in features:
        track = clip.tracks[name]
        if not track.by_word:
            ends = track.times if clip.aligned == "frame" else np.array([step.end for step in clip.steps])
            features[name] = features[name][: int((ends <= moment + _CLOSE).sum())]


def _word_coalitions(words: int) -> tuple[list[list[int]], Array]:
    """Coalitions of words, by number, and the matrix that turns their predictions into Shapley values."""
    permutations = max(4, _READINGS // words // 2 * 2)
    coalitions, matrix = attribution(tuple(map(str, range(words))), permutations)
    return [[int(i) for i in coalition] for coalition in coalitions], matrix


def _text(words: Sequence[Word]) -> str | None:
    return " ".join(word.text for word in words) or None


def _curve_times(clip: Clip) -> list[float]:
    """Where the curve has points: ends of words, or of steps; the last one is the end of the utterance."""
    ends = [word.end for word in clip.words if word.end is not None]
    if len(ends) < len(clip.words) or not ends:
        ends = [step.end for step in clip.steps]
    if not ends:
        return [] if clip.duration is None else [clip.start + clip.duration]
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(_POINTS, len(ends))).round().astype(int))
    return [float(ends[i]) for i in chosen]

"""From a clip to an answer: extraction as in training, prediction, attribution by modality, by word and over time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip, Word
from pase_msa.media.decode import probe
from pase_msa.media.pipeline import TEXT_SUFFIX, Extractor
from pase_msa.media.table import LONG
from pase_msa.parallel import threads
from pase_msa.serve.answers import ClipAnswer, Moment, UtteranceAnswer, WordInfluence, overall, value_of
from pase_msa.serve.predictor import Prediction, Predictor
from pase_msa.shapley import attribution

_READINGS = 160  # of the text for its words, about: 8 words or fewer exactly, more by sampled orders
_POINTS = 16  # of the curve within an utterance, at most
Progress = Callable[[int, int], None]


class ClipPredictor:
    """A saved model that answers clips. Its networks are loaded once; one clip at a time.

    Args:
        source: run folder, or a folder with a saved model.
        device: torch device of the model; extraction runs on the CPU.

    Errors:
        PaSEError: the model does not know how its features were made, or they cannot be made so here.
    """

    def __init__(self, source: str | Path, device: str = "cpu") -> None:
        self.predictor = Predictor(source, device)
        model = self.predictor.model
        self.modalities = model.task.modalities
        record = self.predictor.extraction
        if record is None:
            raise PaSEError(
                f"The model in {source} was trained on features that do not say how they were made, so it cannot read "
                "clips; train it on a table of `pase extract`, or give features with --data."
            )
        read = [name for name in self.modalities if model.inputs[name].text is None]
        if unknown := [name for name in read if name not in record["modalities"]]:
            raise PaSEError(
                f"The model reads {unknown[0]}, and its record of the extraction says nothing of it; train it on a "
                "table of `pase extract`, or give features with --data."
            )
        # what the model does not read is not extracted; its transcripts need some extractor to be with
        kept = {name: record["modalities"][name] for name in read} or record["modalities"]
        self.extractor = Extractor.from_record({**record, "modalities": kept})
        self._dims = {name: model.inputs[name].dim for name in read}
        self._transcripts = len(read) < len(self.modalities)

    def predict(
        self,
        path: str | Path | None,
        text: str | None = None,
        *,
        without: Collection[str] = (),
        words: bool = True,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> ClipAnswer:
        """The answer to a clip.

        Args:
            path: video, audio or text file, told apart by content; None for text alone.
            text: the transcript, if it is known; the clip is then one utterance. Recognised if left out.
            without: modalities to withhold.
            words: attribute to words and compute the curve, which takes some more readings of the text.
            name: of the clip in the answer; the file's if left out.
            progress: told how many utterances are done, and of how many.

        Errors:
            PaSEError: the file cannot be read, or holds nothing that the model reads.
        """
        clips = self.extract(path, text, progress=progress)
        title = name or (Path(path).name if path is not None else "text")
        return self.answer(clips, without=without, words=words, name=title)

    def extract(
        self, path: str | Path | None, text: str | None = None, *, progress: Progress | None = None
    ) -> list[Clip]:
        """The utterances of a clip; one of more than 30 s without a text is cut at pauses, as `pase extract` cuts."""
        tell = progress or (lambda done, of: None)
        media = path is not None and Path(path).suffix.lower() != TEXT_SUFFIX
        if path is None or not media or (text and text.strip()) or probe(path).duration <= LONG:
            tell(0, 1)
            return [self.extractor.extract_clip(path, text)]
        spans = self.extractor.segments(path)
        clips = []
        for done, span in enumerate(spans):
            tell(done, len(spans))
            clips.append(self.extractor.extract_clip(path, start=span.start, end=span.end))
        return clips

    @threads(1)
    def answer(
        self, clips: Sequence[Clip], *, without: Collection[str] = (), words: bool = True, name: str = "clip"
    ) -> ClipAnswer:
        """The answer to utterances that were extracted before; `without` may change from call to call."""
        if unknown := sorted(set(without) - set(self.modalities)):
            raise PaSEError(
                f"The model reads {', '.join(self.modalities)}, not {unknown[0]!r}; withhold some of these."
            )
        if set(without) >= set(self.modalities):
            raise PaSEError(f"Nothing is left to answer from; withhold fewer of {', '.join(self.modalities)}.")
        began = time.perf_counter()
        held = [self._held(clip, without) for clip in clips]
        if not any(held):
            notes = " ".join(dict.fromkeys(note for clip in clips for note in clip.notes))
            left = ", ".join(item for item in self.modalities if item not in without)
            raise PaSEError(f"{name} holds nothing that the model can answer from ({left}). {notes}".strip())
        found = [self._utterance(clip, here, words) for clip, here in zip(clips, held, strict=True)]
        seconds: dict[str, float] = {}
        for clip in clips:
            for stage, value in clip.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + value
        seconds["answer"] = time.perf_counter() - began
        said, base = overall(name, found)
        known = [clip.start + clip.duration for clip in clips if clip.duration is not None]
        return ClipAnswer(name, max(known, default=None), said, base, found, seconds)

    def _held(self, clip: Clip, without: Collection[str]) -> list[str]:
        """The model's modalities that an utterance has."""
        return [
            name
            for name in self.modalities
            if name not in without and (name in clip.features if name in self._dims else bool(clip.text))
        ]

    def _utterance(self, clip: Clip, held: list[str], words: bool) -> UtteranceAnswer:
        reads_words = any(name not in self._dims or clip.tracks[name].by_word for name in held)
        games, matrix = _games(len(clip.words)) if words and reads_words and clip.words else ([], None)
        times = _times(clip) if words else []
        texts = [[clip.words[i] for i in sorted(game)] for game in games[:-1]]
        texts += [[word for word in clip.words if word.end is None or word.end <= at + 1e-6] for at in times[:-1]]
        rows = list(zip(self.extractor.reread(clip, texts), map(_text, texts), strict=True))
        for row, at in zip(rows[len(texts) - len(times[:-1]) :], times, strict=False):
            self._stop(row[0], clip, at)
        said, *others = self._ask([(clip.features, clip.text), *rows], held)
        value = value_of(said, said.label)
        values = [value_of(other, said.label) for other in others]
        parted = max(0, len(games) - 1)
        influence = [0.0] * len(clip.words)
        if matrix is not None:
            influence = (matrix @ np.array([*values[:parted], value])).tolist()
        curve = (
            [Moment(at, so_far) for at, so_far in zip(times, [*values[parted:], value], strict=True)] if times else []
        )
        end = None if clip.duration is None else clip.start + clip.duration
        return UtteranceAnswer(
            clip.start,
            end,
            clip.text,
            said,
            value - sum(said.contributions.values()),
            [WordInfluence(w.text, w.start, w.end, change) for w, change in zip(clip.words, influence, strict=True)],
            curve,
            held,
            clip.notes,
        )

    def _ask(self, rows: list[tuple[dict[str, Array], str | None]], held: list[str]) -> list[Prediction]:
        """One pass of the model over an utterance and its variants."""
        dims = {name: dim for name, dim in self._dims.items() if name in held}
        texts = self._transcripts and any(name not in self._dims for name in held)
        if not dims and not texts:
            # an utterance of a long clip in which there is nothing: the answer without any modality
            dims = self._dims
        utterances = (
            Utterance(str(i), "clip", "", {}, {n: f.get(n) for n in dims if n in held}, text if texts else None)
            for i, (f, text) in enumerate(rows)
        )
        meta = {"extraction": self.extractor.record}
        table = FeatureTable.build(utterances, Schema(dict(dims), {}, texts), meta=meta)
        return list(self.predictor.predict(table, empty=True))

    @staticmethod
    def _stop(features: dict[str, Array], clip: Clip, moment: float) -> None:
        """Cut what was heard and seen off at a moment."""
        for name in features:
            track = clip.tracks[name]
            if not track.by_word:
                ends = track.times if clip.aligned == "frame" else np.array([step.end for step in clip.steps])
                features[name] = features[name][: int((ends <= moment + 1e-6).sum())]


def _games(words: int) -> tuple[list[list[int]], Array]:
    """Which words to leave, and the matrix that makes Shapley values of what is said then."""
    permutations = max(4, _READINGS // words // 2 * 2)
    games, matrix = attribution(tuple(map(str, range(words))), permutations)
    return [[int(i) for i in game] for game in games], matrix


def _text(words: Sequence[Word]) -> str | None:
    return " ".join(word.text for word in words) or None


def _times(clip: Clip) -> list[float]:
    """Where the curve has points: ends of words, or of steps; the last one is the whole utterance."""
    ends = [word.end for word in clip.words if word.end is not None]
    if len(ends) < len(clip.words) or not ends:
        ends = [step.end for step in clip.steps]
    if not ends:
        return [] if clip.duration is None else [clip.start + clip.duration]
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(_POINTS, len(ends))).round().astype(int))
    return [float(ends[i]) for i in chosen]


def as_rows(answer: ClipAnswer) -> list[dict[str, Any]]:
    """One line an utterance, for CSV."""
    return [
        {
            "clip": answer.name,
            "start": item.start,
            "end": item.end,
            **({"score": item.prediction.score} if item.prediction.label is None else {"label": item.prediction.label}),
            "confidence": item.prediction.confidence,
            **{f"contribution_{name}": value for name, value in item.prediction.contributions.items()},
            "text": item.text or "",
        }
        for item in answer.utterances
    ]

"""From one clip to its features: decode, find speech, recognise or align words, extract, align."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from pase_msa.data.columns import Array
from pase_msa.data.extraction import require_same
from pase_msa.errors import PaSEError
from pase_msa.media.align import pool, windows, word_spans
from pase_msa.media.base import Media
from pase_msa.media.clip import Clip, Span, Timing, Track, Word
from pase_msa.media.config import ExtractConfig
from pase_msa.media.decode import RATE, Info, probe, read_audio
from pase_msa.media.languages import AUTO, ENGLISH, recogniser_for
from pase_msa.media.record import config_of, make_record
from pase_msa.media.speech import cut, find_speech, speech_blocks
from pase_msa.media.words import align, detect_language, recognise, words_of_file
from pase_msa.parallel import threads

TEXT_SUFFIX = ".txt"
_SILENT = 1e-4  # of full scale, -80 dB
Begin = Callable[[str], None]
"""Called with the name of every stage of an extraction as it begins."""


class Extractor:
    """Extracts clips. Networks are loaded once, at the beginning, and run on one thread.

    Args:
        config: options of the extraction.

    Attributes:
        config: its options.
        extractors: by modality.
        record: extractors, options, versions and weights; it is stored in tables and models.
    """

    def __init__(self, config: ExtractConfig | None = None) -> None:
        self.config = config or ExtractConfig()
        self.extractors = {name: self.config.build(name) for name in self.config.modalities}
        self.record = make_record(self.config, self.extractors)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """An extractor that makes features as a recorded one did.

        Errors:
            PaSEError: the installed weights are others, or missing.
        """
        extractor = cls(config_of(record))
        require_same(record, extractor.record, record["modalities"])
        return extractor

    @property
    def stages(self) -> list[str]:
        """The stages of an extraction, in order."""
        return ["open", "sound", "speech", "language", "words", *self.extractors]

    @threads(1, numpy=True)
    def extract_clip(
        self,
        path: str | Path | None,
        text: str | None = None,
        *,
        start: float = 0.0,
        end: float | None = None,
        channel: int | None = None,
        language: str | None = None,
        begin: Begin | None = None,
    ) -> Clip:
        """Everything about a clip, or about a part of a longer one.

        Args:
            path: video, audio or text file, told apart by content; None for text alone.
            text: the transcript, if it is known; it is aligned to the sound. Recognised if left out.
            start: where the clip begins in the file, in seconds.
            end: where it ends; at the end of the file if left out.
            channel: of the sound that is read, from 0; the mix of all if left out.
            language: of the speech, or "auto" to detect it; that of the configuration if left out.
            begin: called with the name of each of `stages` as it begins.

        Errors:
            PaSEError: the file does not exist, is empty, damaged or no media file; or neither file nor text was given.
        """
        seconds = _Seconds(begin)
        language = language or self.config.language
        media = Media("" if path is None else str(path), channel=channel)
        with _timed(seconds, "open"):
            if path is not None and (read := _text_of(Path(path))) is not None:
                text, media = text or read, Media(str(path))
            elif path is not None:
                media.info = probe(path)
                media.start, media.end = start, _end(path, media.info, start, end)
        timing: Timing = "none"
        if media.info is None:
            if not text or not text.strip():
                raise PaSEError("A clip needs a video, audio or text file, or a text; nothing was given.")
            media.words = [Word(word) for word in text.split()]
            spoken = None if language == AUTO else language
        else:
            with _timed(seconds, "sound"):
                sound = read_audio(media.path, media.start, media.end, media.notes, media.channel)
            timing, spoken = self._listen(media, sound, text, language, seconds)
        return self._extract(media, timing, spoken, seconds)

    @threads(1, numpy=True)
    def extract_sound(self, sound: Array, *, start: float = 0.0, language: str | None = None) -> Clip:
        """Everything about an utterance whose sound is in memory, as `extract_clip` gives it for a file.

        Args:
            sound: float32 [n] in [-1, 1], mono, at `RATE` Hz.
            start: where it begins in its recording, in seconds.
            language: of the speech, or "auto" to detect it; that of the configuration if left out.
        """
        seconds = _Seconds(None)
        length = len(sound) / RATE
        media = Media("", Info(length, audio=True, video=False, sample_rate=RATE), start, start + length)
        timing, spoken = self._listen(media, sound, None, language or self.config.language, seconds)
        return self._extract(media, timing, spoken, seconds)

    def _extract(self, media: Media, timing: Timing, spoken: str | None, seconds: _Seconds) -> Clip:
        """The clip of an opened file whose words are known."""
        clip = Clip(media.path, media.start, timing=timing, notes=media.notes, extraction=self.record)
        clip.language = spoken
        for name, extractor in self.extractors.items():
            with _timed(seconds, name):
                track = extractor.extract(media)
            if track is not None and len(track.values):
                clip.tracks[name] = track
        clip.words, clip.speech, clip.faces, clip.seconds = media.words, media.speech, media.faces, dict(seconds)
        clip.face_tracks = media.face_tracks
        clip.text = " ".join(word.text for word in media.words) or None
        clip.duration = None if media.info is None else self._duration(media, clip)
        self._align(clip)
        return clip

    @threads(1, numpy=True)
    def segments(self, path: str | Path) -> list[Span]:
        """Utterances of a long video or sound, cut at pauses; parts of equal length where nobody speaks.

        The sound is searched in blocks, so that the length of the file does not matter.
        """
        speech: list[Span] = []
        last = 0.0
        for begin, sound, spans in speech_blocks(path, self.config):
            speech += [Span(begin + span.start, begin + span.end) for span in spans]
            last = begin + len(sound) / RATE
        return cut(probe(path).duration or last, speech, self.config.longest)

    def extract_utterances(self, path: str | Path, language: str | None = None) -> Iterator[Clip]:
        """The utterances of a long video or sound, one clip each; the language is detected once for all of them."""
        spoken = self.language_of(path, language)
        for span in self.segments(path):
            yield self.extract_clip(path, start=span.start, end=span.end, language=spoken)

    @threads(1, numpy=True)
    def language_of(self, path: str | Path, language: str | None = None) -> str:
        """The language of a recording, detected in its first speech where it is "auto"; "auto" where nobody speaks.

        Args:
            path: of the recording.
            language: a code or "auto"; that of the configuration if left out.
        """
        language = language or self.config.language
        if language == AUTO and (found := self.detect(path)):
            return found[0]
        return language

    @threads(1, numpy=True)
    def detect(self, path: str | Path) -> tuple[str, float] | None:
        """The language of the first speech of a recording and its probability; None where nobody speaks.

        Errors:
            PaSEError: the multilingual recogniser is not installed.
        """
        found = (detect_language(sound, spans) for _, sound, spans in speech_blocks(path, self.config))
        return next(filter(None, found), None)

    def _listen(
        self, media: Media, sound: Array, text: str | None, language: str, seconds: _Seconds
    ) -> tuple[Timing, str | None]:
        """Put sound, speech and words into `media`.

        Returns:
            Where the words' times come from, and the language; None where it was to be detected and nobody speaks.
        """
        config = self.config
        if not len(sound):
            media.note("There is no sound, so audio is absent.")
        elif float(np.abs(sound).max()) < _SILENT:
            media.note("The sound is silent, so audio is absent.")
        else:
            media.audio = sound
            with _timed(seconds, "speech"):
                media.speech = find_speech(sound, threshold=config.voice, pause=config.pause)
        spoken: str | None = language
        if language == AUTO:
            with _timed(seconds, "language"):
                found = detect_language(sound, media.speech)
                spoken = None if found is None else found[0]
        timing: Timing = "none"
        with _timed(seconds, "words"):
            if text and text.strip():
                media.words, timing = align(sound, text, media.speech, spoken)
                if timing == "spread":
                    why = (
                        "could not be aligned to the sound" if spoken == ENGLISH else "is not in the aligner's English"
                    )
                    media.note(f"The text {why}, so its words were spread over the speech.")
            elif media.speech and spoken is not None:
                media.words = recognise(sound, media.speech, recogniser_for(spoken, config.recogniser), spoken)
                timing = "recognised" if media.words else "none"
        if not media.words:
            media.note("Nobody speaks, so text is absent." if not media.speech else "No word was understood.")
        media.words = [_shifted(word, media.start) for word in media.words]
        media.speech = [Span(span.start + media.start, span.end + media.start) for span in media.speech]
        return timing, spoken

    @staticmethod
    def _duration(media: Media, clip: Clip) -> float:
        """Duration of the clip: as the file states it, else until the end of its sound or of its last picture."""
        if np.isfinite(media.end):
            return media.end - media.start
        sound = 0.0 if media.audio is None else len(media.audio) / RATE
        pictures = max((float(t.times[-1]) - media.start for t in clip.tracks.values() if not t.by_word), default=0.0)
        return max(sound, pictures)

    def _align(self, clip: Clip) -> None:
        """Choose the clip's steps and bring every modality to them."""
        config = self.config
        spans = word_spans(clip.words) if config.align == "word" else None
        clip.aligned = "word" if config.align == "word" else config.align
        if config.align == "frame":
            clip.features = {name: track.values for name, track in clip.tracks.items()}
            return
        if spans is None and clip.duration is not None:
            clip.aligned = "window"
            spans = windows(clip.start, clip.duration, config.window)
        clip.steps = spans or []
        for name, track in clip.tracks.items():
            clip.features[name] = self._by_step(name, track, clip)

    def _by_step(self, name: str, track: Track, clip: Clip) -> Array:
        """A modality's features as they go into a table."""
        if clip.aligned == "frame":
            return track.values
        timeless = track.by_word and (clip.aligned == "word" or bool(np.isnan(track.times).any()))
        deviations = self.extractors[name].deviations
        return track.values if timeless else pool(track, clip.steps, deviations=deviations)

    @threads(1, numpy=True)
    def reread(self, clip: Clip, texts: Sequence[Sequence[Word]]) -> list[dict[str, Array]]:
        """The features of a clip with other words.

        Features that are made from words are made again. Those of sound and pictures stay, so that the influence of
        words can be told from them.

        Args:
            clip: an extracted clip.
            texts: for each variant its words.

        Returns:
            Features by modality, for each variant.
        """
        unchanged = {name: values for name, values in clip.features.items() if not clip.tracks[name].by_word}
        variants = [dict(unchanged) for _ in texts]
        media = [Media(clip.path, words=list(words)) for words in texts]
        for name in clip.tracks.keys() - unchanged.keys():
            for features, track in zip(variants, self.extractors[name].extract_many(media), strict=True):
                if track is not None and len(track.values):
                    features[name] = self._by_step(name, track, clip)
        return variants


def _text_of(path: Path) -> str | None:
    """The text of a text file; None for any other content, even under the name of a text file."""
    if path.suffix.lower() != TEXT_SUFFIX or not path.is_file():
        return None
    try:
        return words_of_file(path)
    except PaSEError:
        with contextlib.suppress(PaSEError):
            probe(path)
            return None
        raise


def _end(path: str | Path, info: Info, start: float, end: float | None) -> float:
    last = info.duration or np.inf
    stop = last if end is None else min(end, last)
    if not 0 <= start < stop:
        raise PaSEError(
            f"{path} is {last:g} s long, so it has no clip from {start:g} s to "
            f"{'its end' if end is None else f'{end:g} s'}; give other times."
        )
    return stop


def _shifted(word: Word, by: float) -> Word:
    if word.start is None or word.end is None:
        return word
    return Word(word.text, word.start + by, word.end + by, word.confidence)


class _Seconds(dict[str, float]):
    """Seconds by stage, and whom to tell that a stage begins."""

    def __init__(self, begin: Begin | None) -> None:
        super().__init__()
        self.begin: Begin = begin or (lambda stage: None)


@contextlib.contextmanager
def _timed(seconds: _Seconds, stage: str) -> Iterator[None]:
    seconds.begin(stage)
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - began

"""From a recording to its utterances: divided at pauses, by a timeline or by speaker, extracted as in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip
from pase_msa.media.config import RecordingOptions
from pase_msa.media.decode import duration_of
from pase_msa.media.languages import (
    AUTO,
    MULTILINGUAL,
    has_multilingual,
    name_of,
    recogniser_for,
    require_multilingual,
)
from pase_msa.media.pipeline import TEXT_SUFFIX, Extractor
from pase_msa.media.recordings import divide, with_speakers
from pase_msa.media.running import LONG
from pase_msa.media.timelines.base import Segment
from pase_msa.parallel import threads
from pase_msa.serve.pieces import Pieces, Progress, Report

#: a language that nobody named is doubted where another one is as probable as this
_SURE = 0.8
#: words of a mean confidence above this are not doubted, since telling a language takes a second: English clips have
#: .85 to .94, German and Spanish ones that are read as English .39 to .82
_CLEAR = 0.9


class Reader:
    """Reads recordings in pieces of one utterance.

    Args:
        extractor: makes features as in training.
        languages: of the utterances that the model was trained on, the most frequent first; empty if not known.
    """

    def __init__(self, extractor: Extractor, languages: Sequence[str]) -> None:
        self._extractor, self._languages = extractor, languages

    def pieces(
        self,
        path: str | Path | None,
        text: str | None,
        *,
        segments: Sequence[Segment] | None = None,
        progress: Report | None = None,
        options: RecordingOptions | None = None,
    ) -> Pieces[list[Clip]]:
        """The utterances of a clip, one piece of work each; see `ClipPredictor.extract`."""
        report = progress or (lambda progress: None)
        options = options or RecordingOptions()
        options.check()
        media = path is not None and Path(path).suffix.lower() != TEXT_SUFFIX
        for asked, what in (
            (segments is not None, "Segments divide"),
            (options.speakers, "Speakers are told apart in"),
        ):
            if asked and not media:
                raise PaSEError(f"{what} a recording, and a text alone has no times; give video or audio.")
        if options.speakers and text and text.strip():
            raise PaSEError("The transcript is of the whole recording, and not of each speaker; leave out one of them.")
        language = self._language(path if media else None, options.language)
        parts: Sequence[Segment] | None = None
        if path is not None and media and not (text and text.strip()):
            if options.speakers is not None or (segments is None and duration_of(path) > LONG):
                report(Progress("cut"))
                with threads(1, numpy=True):
                    parts = self._parts(path, segments, options)
                yield
            else:
                parts = segments
            _check_within(path, parts or ())
        clips = []
        for number, part in enumerate([Segment(0.0, 0.0, text)] if parts is None else parts):
            end = None if parts is None else part.end
            clip = self._extract(path, part, end, language, number, len(parts or "1"), report)
            clip.speaker = part.speaker
            clips.append(clip)
            if parts is not None:
                yield
        self._compare_languages(clips)
        if path is not None and media and options.language is None and not (text and text.strip()):
            self._doubt_language(path, language, clips)
        return clips

    def sound(self, sound: Array, start: float) -> Clip:
        """One utterance whose sound is in memory; see `Extractor.extract_sound`."""
        clip = self._extractor.extract_sound(sound, start=start, language=self._language(None, None))
        self._compare_languages([clip])
        return clip

    def _extract(
        self,
        path: str | Path | None,
        part: Segment,
        end: float | None,
        language: str,
        number: int,
        count: int,
        report: Report,
    ) -> Clip:
        """One of `count` utterances; extraction is the first half of the work."""
        stages = self._extractor.stages

        def begin(stage: str) -> None:
            done = (number + stages.index(stage) / len(stages)) / count
            report(Progress(stage, done / 2, number + 1, count))

        return self._extractor.extract_clip(
            path, part.text, start=part.start, end=end, channel=part.channel, language=language, begin=begin
        )

    def _language(self, path: str | Path | None, language: str | None) -> str:
        """The language of a request, detected once per recording; that of the training where nothing is asked.

        Args:
            path: of a recording; None for text alone, whose language is not detected.
            language: that was asked for.
        """
        several = AUTO if len(self._languages) > 1 else self._extractor.config.language
        wanted = language or (self._languages[0] if len(self._languages) == 1 else several)
        if path is None:
            return wanted
        if wanted == AUTO or recogniser_for(wanted, self._extractor.config.recogniser) == MULTILINGUAL:
            require_multilingual(wanted)
        return self._extractor.language_of(path, wanted)

    def _parts(
        self, path: str | Path, segments: Sequence[Segment] | None, options: RecordingOptions
    ) -> Sequence[Segment] | None:
        """Where a recording is divided; None where it is one utterance."""
        if options.speakers is not None:
            if segments is not None and any(segment.speaker for segment in segments):
                raise PaSEError("The segments say who speaks; leave --speakers out, or take segments without speakers.")
            found = divide(path, options, self._extractor.config)
            if segments is not None:
                return with_speakers(segments, found)
            if found:
                return found
        if segments is not None or duration_of(path) <= LONG:
            return segments
        return [Segment(span.start, span.end) for span in self._extractor.segments(path)]

    def _compare_languages(self, clips: Sequence[Clip]) -> None:
        """Note that utterances are in another language than those that the model was trained on."""
        for clip in clips:
            if clip.language is not None and self._languages and clip.language not in self._languages:
                known = " and ".join(name_of(language) for language in self._languages)
                clip.notes.append(
                    f"The words are {name_of(clip.language)}, and the model was trained on {known}: its scores do not "
                    f"carry over unless they were evaluated on {name_of(clip.language)}."
                )

    def _doubt_language(self, path: str | Path, language: str, clips: Sequence[Clip]) -> None:
        """Note that a recording was read as one language and sounds like another.

        Only where the recogniser that tells them apart is installed; with a transcript or a language nobody asks. There
        may be no words at all, since an English recogniser understands none in some languages.
        """
        heard = [clip for clip in clips if clip.speech and clip.timing in ("recognised", "none")]
        if language == AUTO or len(self._languages) > 1 or not heard or not has_multilingual():
            return
        sure = [word.confidence for clip in heard for word in clip.words if word.confidence is not None]
        if sure and sum(sure) / len(sure) > _CLEAR:
            return
        found = self._extractor.detect(path)
        if found is not None and found[0] != language and found[1] >= _SURE:
            heard[0].notes.append(
                f"This sounds like {name_of(found[0])} and was read as {name_of(language)}, so its words may be wrong; "
                f"give --language {found[0]}, or auto."
            )


def _check_within(path: str | Path, segments: Sequence[Segment]) -> None:
    duration = duration_of(path) if segments else 0.0
    if beyond := [segment for segment in segments if duration and segment.start >= duration]:
        raise PaSEError(
            f"{path} is {duration:g} s long, and a segment begins at {beyond[0].start:g} s; give the segments of "
            "this recording."
        )

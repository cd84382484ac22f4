"""Options of an extraction: which modalities, by which extractors, and how their steps are aligned."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pase_msa import plugins
from pase_msa.errors import PaSEError
from pase_msa.media.base import FeatureExtractor
from pase_msa.media.languages import AUTO, MULTILINGUAL, check_language, recogniser_for, require_multilingual

CHANNELS = "channels"
#: speakers that are told apart by their voices, at most
MOST_SPEAKERS = 8


@dataclass(frozen=True)
class RecordingOptions:
    """What is asked about a recording. `check` refuses contradictions.

    Attributes:
        speakers: "auto" finds how many there are by their voices, a number such as "2" says it, "channels" is one
            speaker per channel of the sound; None does not ask who speaks.
        names: of the speakers, in the order in which they first talk, or of the channels.
        language: of the speech, by its code, or "auto"; None is the one that the extraction was made for.
    """

    speakers: str | None = None
    names: Sequence[str] = ()
    language: str | None = None

    def check(self) -> None:
        """Refuse options that contradict each other, or that nothing can be done with.

        Errors:
            PaSEError: the sentence names the option.
        """
        count, known = self.count, self.speakers in (None, AUTO, CHANNELS)
        if not known and not 1 <= (count or 0) <= MOST_SPEAKERS:
            raise PaSEError(
                f"--speakers takes auto, channels or a number from 1 to {MOST_SPEAKERS}, found {self.speakers!r}; give "
                "one of these."
            )
        if self.names and self.speakers is None:
            raise PaSEError("--speaker-names names the speakers that --speakers finds; add --speakers auto.")
        if len(set(self.names)) < len(self.names):
            raise PaSEError("--speaker-names has a name twice; give each speaker a name of their own.")
        if self.names and not known and count != len(self.names):
            raise PaSEError(
                f"--speakers {self.speakers} and {len(self.names)} names do not agree; give a name for each speaker."
            )
        if self.language is not None:
            check_language(self.language)

    @property
    def count(self) -> int | None:
        """Number of speakers that is known; as many as there are names where it is to be found."""
        if self.speakers is not None and self.speakers.isdecimal():
            return int(self.speakers)
        return len(self.names) or None if self.speakers == AUTO else None


@dataclass
class ExtractConfig:
    """Options of an extraction.

    Attributes:
        modalities: of the table; each is the extractor of the same name unless `extractors` says otherwise.
        extractors: options of the extractors by modality; the key "extractor" names another plug-in, for example
            {"audio": {"extractor": "whisper"}, "vision": {"rate": 10}}.
        align: "word" gives every modality one step per word (a clip without speech gets windows), "window" one step
            per window, "frame" leaves each at its own rate.
        window: seconds of a window.
        recogniser: faster-whisper model that writes transcripts: "tiny.en" or "multilingual" from packages, a folder
            or, where a hub is reachable, a name. "tiny.en" becomes "multilingual" where the language is not English.
        language: of the speech, by the code that the recogniser uses, or "auto" to detect it in every recording.
        voice: probability from which on a moment is speech.
        pause: silence, in seconds, at which long media are cut into utterances.
        longest: seconds of an utterance; longer ones are cut at their last short silence.
        speakers: by which recordings are divided, see `RecordingOptions`. It is no part of the record, since features
            do not depend on it.
        speaker_names: in the order of `RecordingOptions.names`.
    """

    modalities: list[str] = field(default_factory=lambda: ["text", "audio", "vision"])
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)
    align: Literal["word", "window", "frame"] = "word"
    window: float = 0.5
    recogniser: str = "tiny.en"
    language: str = "en"
    voice: float = 0.5
    pause: float = 0.6
    longest: float = 20.0
    speakers: str | None = None
    speaker_names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recording.check()
        self.recogniser = recogniser_for(self.language, self.recogniser)
        if self.recogniser == MULTILINGUAL or self.language == AUTO:
            require_multilingual(self.language)
        if not self.modalities:
            raise PaSEError("Extraction needs a modality to extract; name some, for example text,audio,vision.")
        if unknown := sorted(set(self.extractors) - set(self.modalities)):
            raise PaSEError(
                f"extractors names {unknown[0]!r}, which is not among the modalities ({', '.join(self.modalities)})."
            )
        if self.align not in ("word", "window", "frame"):
            raise PaSEError(f"align must be word, window or frame, found {self.align!r}.")
        if not (0 < self.voice < 1 and self.window > 0 and self.pause > 0 and self.longest >= 1):
            raise PaSEError(
                "Extraction needs voice between 0 and 1, window and pause above 0 and longest of 1 s or more, found "
                f"{self.voice:g}, {self.window:g}, {self.pause:g} and {self.longest:g}."
            )

    @property
    def recording(self) -> RecordingOptions:
        """What is asked about every recording."""
        return RecordingOptions(self.speakers, self.speaker_names, self.language)

    @property
    def division(self) -> list[str] | None:
        """How recordings are divided by speakers, as plain words; None where they are not."""
        return None if self.speakers is None else [self.speakers, *self.speaker_names]

    def options(self, modality: str) -> tuple[str, Any]:
        """The extractor's name and its own configuration."""
        options = dict(self.extractors.get(modality, {}))
        name = str(options.pop("extractor", modality))
        module = plugins.load("media", name)
        return name, plugins.configure(module.Config, options, f"The extractor {name}")

    def build(self, modality: str) -> FeatureExtractor:
        """The extractor of a modality."""
        name, options = self.options(modality)
        extractor: FeatureExtractor = plugins.load("media", name).build(options)
        return extractor

    def to_dict(self) -> dict[str, Any]:
        """Plain containers."""
        return dataclasses.asdict(self)

"""The speaker's face over time: geometry from 468 points and probabilities of seven expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL.Image import Image

from pase_msa.errors import PaSEError
from pase_msa.media import geometry
from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Track
from pase_msa.media.expression import EMOTIONS, EXPRESSION, STATES, ExpressionReader
from pase_msa.media.face import DETECTOR, MESH, DetectedFace, FaceFinder, FaceMesh, overlap
from pase_msa.media.faces import MOST_FACES, SAME_FACE, FollowedFace, matches, speaking_first


@dataclass
class Config:
    """Options.

    Attributes:
        rate: frames per second that are looked at.
        face: which one to follow where there are several: the "largest", the most "central", or the "speaking" one,
            whose mouth moves while somebody speaks.
        threshold: score from which on a detection counts as a face.
        longest_side: pixels; larger pictures are scaled down to it.
        states: add the 128 states of the expression network.
    """

    rate: float = 5.0
    face: Literal["largest", "central", "speaking"] = "largest"
    threshold: float = 0.5
    longest_side: int = 640
    states: bool = False


class FaceTrack(FeatureExtractor):
    """Geometry and expression of the face that is followed, one row per sampled frame."""

    looks_for = "face"
    weights = (DETECTOR, MESH, EXPRESSION)
    versions = ("ai-edge-litert",)

    def __init__(self, config: Config) -> None:
        if config.rate <= 0 or config.longest_side < 64 or not 0 < config.threshold < 1:
            raise PaSEError(
                "The vision extractor needs a rate above 0, a longest_side of 64 or more and a threshold between 0 and "
                f"1, found {config.rate:g}, {config.longest_side} and {config.threshold:g}."
            )
        self.config = config
        self.find, self.mesh, self.read = FaceFinder(config.threshold), FaceMesh(), ExpressionReader()
        self.columns = [*geometry.COLUMNS, *EMOTIONS]
        if config.states:
            self.columns += [f"state_{i}" for i in range(STATES)]
        self.dim = len(self.columns)

    def extract(self, media: Media) -> Track | None:
        """Rows [T, D], one per sampled frame; NaN throughout where the frame shows no face."""
        frames, *others = self._follow_all(media) if self.config.face == "speaking" else [self._follow(media)]
        if not frames.faces:
            if media.info is not None and media.info.video:
                media.note("No face was found, so vision is absent." if frames.times else "No picture could be read.")
            return None
        probabilities, states = frames.expression()
        media.faces = frames.with_expression()
        media.face_tracks = [media.faces, *(other.with_expression() for other in others)]
        if others:
            media.note(f"{1 + len(others)} faces were followed; vision is of the one whose mouth moves with the voice.")
        visible = np.array([shape is not None for shape in frames.shapes])
        values = np.full((len(visible), self.dim), np.nan, np.float32)
        shapes = np.stack([shape for shape in frames.shapes if shape is not None])
        values[visible] = np.concatenate([shapes, probabilities, *([states] if self.config.states else [])], axis=1)
        if not visible.all():
            media.note(f"A face was found in {visible.sum()} of {len(visible)} sampled frames.")
        return Track(values, np.array(frames.times))

    def _follow(self, media: Media) -> FollowedFace:
        """One face over the frames."""
        frames = FollowedFace(self.read)
        followed: DetectedFace | None = None
        for time, image in media.frames(self.config.rate, self.config.longest_side):
            face = self.choose(self.find(image), image, followed)
            points = None if face is None else self.mesh(image, face)
            if face is None or points is None:
                frames.skip(time)
                continue
            followed = face
            frames.add(time, image, face, points)
        frames.end()
        return frames

    def _follow_all(self, media: Media) -> list[FollowedFace]:
        """Every face over the frames, the one that speaks first; one without any frame where there is no face."""
        tracks: list[FollowedFace] = []
        times: list[float] = []
        for time, image in media.frames(self.config.rate, self.config.longest_side):
            faces = sorted(self.find(image), key=lambda face: -float(np.prod(face.box[2:] - face.box[:2])))[:MOST_FACES]
            for face, track in zip(faces, matches(faces, tracks), strict=True):
                points = self.mesh(image, face)
                if points is None:
                    continue
                if track is None:
                    track = FollowedFace(self.read, times)
                    tracks.append(track)
                track.add(time, image, face, points)
            times.append(time)
            for track in tracks:
                track.skip_to(times)
        for track in tracks:
            track.end()
        return speaking_first(tracks, media.speech) or [FollowedFace(self.read, times)]

    def choose(self, faces: list[DetectedFace], image: Image, followed: DetectedFace | None) -> DetectedFace | None:
        """The face that was followed so far, else the largest or the most central one."""
        if followed is not None and faces:
            nearest = max(faces, key=lambda face: overlap(face.box, followed.box))
            if overlap(nearest.box, followed.box) > SAME_FACE:
                return nearest
        if self.config.face == "largest":
            return max(faces, key=lambda f: float(np.prod(f.box[2:] - f.box[:2])), default=None)
        centre = np.array([image.width, image.height]) / 2
        return min(faces, key=lambda f: float(np.linalg.norm((f.box[:2] + f.box[2:]) / 2 - centre)), default=None)


def build(config: Config) -> FaceTrack:
    """The plug-in's entry point."""
    return FaceTrack(config)

"""The speaker's face over time: geometry from 468 points and probabilities of seven expressions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL.Image import Image

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media import geometry
from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Face, Track
from pase_msa.media.expression import EMOTIONS, EXPRESSION, STATES, ExpressionReader
from pase_msa.media.face import DETECTOR, MESH, DetectedFace, FaceFinder, FaceMesh, overlap

_BATCH = 64  # faces whose expression is computed at once
_SAME = 0.3  # boxes in two frames that overlap more are the same face


@dataclass
class Config:
    """Options.

    Attributes:
        rate: frames per second that are looked at.
        face: which one to follow where there are several: the "largest" or the most "central".
        threshold: score from which on a detection counts as a face.
        longest_side: pixels; larger pictures are scaled down to it.
        states: add the 128 states of the expression network.
    """

    rate: float = 5.0
    face: Literal["largest", "central"] = "largest"
    threshold: float = 0.5
    longest_side: int = 640
    states: bool = False


@dataclass
class _Frames:
    """Everything about the sampled frames of a clip, in order; `faces` and `crops` only of frames with a face."""

    times: list[float] = field(default_factory=list)
    shapes: list[Array | None] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    crops: list[Array] = field(default_factory=list)
    expressions: list[tuple[Array, Array]] = field(default_factory=list)


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
        frames = self._follow(media)
        if not frames.faces:
            if media.info is not None and media.info.video:
                media.note("No face was found, so vision is absent." if frames.times else "No picture could be read.")
            return None
        probabilities, states = (np.concatenate(parts) for parts in zip(*frames.expressions, strict=True))
        media.faces = [
            Face(face.time, face.box, face.score, dict(zip(EMOTIONS, row.tolist(), strict=True)))
            for face, row in zip(frames.faces, probabilities, strict=True)
        ]
        visible = np.array([shape is not None for shape in frames.shapes])
        values = np.full((len(visible), self.dim), np.nan, np.float32)
        shapes = np.stack([shape for shape in frames.shapes if shape is not None])
        values[visible] = np.concatenate([shapes, probabilities, *([states] if self.config.states else [])], axis=1)
        if not visible.all():
            media.note(f"A face was found in {visible.sum()} of {len(visible)} sampled frames.")
        return Track(values, np.array(frames.times))

    def _follow(self, media: Media) -> _Frames:
        """One face over the frames. Its expression is computed in batches, so that the crops are few in memory."""
        frames = _Frames()
        followed: DetectedFace | None = None
        for time, image in media.frames(self.config.rate, self.config.longest_side):
            frames.times.append(time)
            face = self.choose(self.find(image), image, followed)
            points = None if face is None else self.mesh(image, face)
            if face is None or points is None:
                frames.shapes.append(None)
                continue
            followed = face
            frames.shapes.append(geometry.describe(points, image.width, image.height))
            frames.crops.append(self.read.crop(image, face))
            left, top, right, bottom = np.clip(face.box / np.array([image.width, image.height] * 2), 0, 1).tolist()
            frames.faces.append(Face(time, (left, top, right, bottom), face.score))
            if len(frames.crops) == _BATCH:
                frames.expressions.append(self.read(np.stack(frames.crops)))
                frames.crops.clear()
        if frames.crops:
            frames.expressions.append(self.read(np.stack(frames.crops)))
        return frames

    def choose(self, faces: list[DetectedFace], image: Image, followed: DetectedFace | None) -> DetectedFace | None:
        """The face that was followed so far, else the largest or the most central one."""
        if followed is not None and faces:
            nearest = max(faces, key=lambda face: overlap(face.box, followed.box))
            if overlap(nearest.box, followed.box) > _SAME:
                return nearest
        if self.config.face == "largest":
            return max(faces, key=lambda f: float(np.prod(f.box[2:] - f.box[:2])), default=None)
        centre = np.array([image.width, image.height]) / 2
        return min(faces, key=lambda f: float(np.linalg.norm((f.box[:2] + f.box[2:]) / 2 - centre)), default=None)


def build(config: Config) -> FaceTrack:
    """The plug-in's entry point."""
    return FaceTrack(config)

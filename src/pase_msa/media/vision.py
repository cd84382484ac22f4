"""The speaker's face over time: geometry from 468 points and probabilities of seven expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL.Image import Image

from pase_msa.data.columns import Array
from pase_msa.errors import PaSEError
from pase_msa.media import geometry
from pase_msa.media.base import FeatureExtractor, Media
from pase_msa.media.clip import Face, Track
from pase_msa.media.expression import EMOTIONS, EXPRESSION, STATES, ExpressionReader
from pase_msa.media.face import DETECTOR, MESH, FaceFinder, FaceMesh, Found, overlap

_BATCH = 64  # faces whose expression is read at once
_SAME = 0.3  # overlap of one face in two frames


@dataclass
class Config:
    """Options.

    Attributes:
        rate: frames a second that are looked at.
        face: which one to follow where there are several: the "largest" or the most "central".
        threshold: score from which on something is a face.
        longest_side: pixels; larger pictures are scaled down to it.
        states: add the 128 states of the expression network.
    """

    rate: float = 5.0
    face: Literal["largest", "central"] = "largest"
    threshold: float = 0.5
    longest_side: int = 640
    states: bool = False


class FaceTrack(FeatureExtractor):
    """See the module."""

    weights = (
        DETECTOR,
        MESH,
        EXPRESSION,
    )
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
        """A row a sampled frame, NaN throughout where the frame shows no face."""
        times: list[float] = []
        shapes: list[Array | None] = []
        crops: list[Array] = []
        read: list[tuple[Array, Array]] = []
        faces: list[Face] = []
        before: Found | None = None
        for time, image in media.frames(self.config.rate, self.config.longest_side):
            times.append(time)
            found = self.choose(self.find(image), image, before)
            points = None if found is None else self.mesh(image, found)
            if found is None or points is None:
                shapes.append(None)
                continue
            before = found
            shapes.append(geometry.describe(points, image.width, image.height))
            crops.append(self.read.crop(image, found))
            size = np.array([image.width, image.height] * 2)
            left, top, right, bottom = np.clip(found.box / size, 0, 1).tolist()
            faces.append(Face(time, (left, top, right, bottom), found.score))
            if len(crops) == _BATCH:
                read.append(self.read(np.stack(crops)))
                crops = []
        if crops:
            read.append(self.read(np.stack(crops)))
        if not faces:
            if media.info is not None and media.info.video:
                media.note("No face was found, so vision is absent." if times else "No picture could be read.")
            return None
        probabilities, states = (np.concatenate(parts) for parts in zip(*read, strict=True))
        media.faces = [
            Face(face.time, face.box, face.score, dict(zip(EMOTIONS, row.tolist(), strict=True)))
            for face, row in zip(faces, probabilities, strict=True)
        ]
        seen = np.array([shape is not None for shape in shapes])
        values = np.full((len(times), self.dim), np.nan, np.float32)
        described = np.stack([shape for shape in shapes if shape is not None])
        extra = [states] if self.config.states else []
        values[seen] = np.concatenate([described, probabilities, *extra], axis=1)
        if not seen.all():
            media.note(f"A face was found in {seen.sum()} of {len(seen)} sampled frames.")
        return Track(values, np.array(times))

    def choose(self, found: list[Found], image: Image, before: Found | None) -> Found | None:
        """The face that was followed so far, else the largest or the most central one."""
        if before is not None and found:
            nearest = max(found, key=lambda face: overlap(face.box, before.box))
            if overlap(nearest.box, before.box) > _SAME:
                return nearest
        if self.config.face == "largest":
            return max(found, key=lambda f: float(np.prod(f.box[2:] - f.box[:2])), default=None)
        centre = np.array([image.width, image.height]) / 2
        return min(found, key=lambda f: float(np.linalg.norm((f.box[:2] + f.box[2:]) / 2 - centre)), default=None)


def build(config: Config) -> FaceTrack:
    """The plug-in's entry point."""
    return FaceTrack(config)

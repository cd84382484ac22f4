"""Faces over time: each is followed from frame to frame, and the one that speaks is told by its mouth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image

from pase_msa.data.columns import Array
from pase_msa.media import geometry
from pase_msa.media.clip import Face, Span
from pase_msa.media.expression import EMOTIONS, ExpressionReader
from pase_msa.media.face import DetectedFace, overlap

SAME_FACE = 0.3  # boxes in two frames that overlap more are the same face
MOST_FACES = 4  # that are followed: the largest of a frame
_BATCH = 64  # faces whose expression is computed at once
_LOST = 2.0  # seconds after which a face that comes back is another one


class FollowedFace:
    """One face over the sampled frames of a clip.

    Its expression is computed in batches, so that the crops are few in memory.

    Args:
        read: the network of expressions.
        before: times of the frames before it came.

    Attributes:
        times: of all frames so far.
        shapes: geometry in each of them, see `pase_msa.media.geometry`; None where it is not seen.
        faces: of the frames in which it is seen.
        last: where it was seen last.
    """

    def __init__(self, read: ExpressionReader, before: Sequence[float] = ()) -> None:
        self.times: list[float] = list(before)
        self.shapes: list[Array | None] = [None] * len(before)
        self.faces: list[Face] = []
        self.last: DetectedFace | None = None
        self._read = read
        self._crops: list[Array] = []
        self._expressions: list[tuple[Array, Array]] = []

    def skip(self, time: float) -> None:
        """A frame that does not show the face."""
        self.times.append(time)
        self.shapes.append(None)

    def skip_to(self, times: Sequence[float]) -> None:
        """All frames so far, of which those that were not added do not show the face."""
        for time in times[len(self.times) :]:
            self.skip(time)

    def add(self, time: float, image: Image, face: DetectedFace, points: Array) -> None:
        """A frame that shows the face.

        Args:
            time: in seconds from the beginning of the file.
            image: the frame.
            face: in it.
            points: of the face mesh, [468, 3] in pixels.
        """
        self.times.append(time)
        self.shapes.append(geometry.describe(points, image.width, image.height))
        left, top, right, bottom = np.clip(face.box / np.array([image.width, image.height] * 2), 0, 1).tolist()
        self.faces.append(Face(time, (left, top, right, bottom), face.score))
        self.last = face
        self._crops.append(self._read.crop(image, face))
        if len(self._crops) == _BATCH:
            self.end()

    def end(self) -> None:
        """Compute the expressions that are left."""
        if self._crops:
            self._expressions.append(self._read(np.stack(self._crops)))
            self._crops.clear()

    def expression(self) -> tuple[Array, Array]:
        """Probabilities [N, 7] and states [N, 128] of the frames in which it is seen."""
        probabilities, states = (np.concatenate(parts) for parts in zip(*self._expressions, strict=True))
        return probabilities, states

    def with_expression(self) -> list[Face]:
        """The faces with the probability of each emotion."""
        return [
            Face(face.time, face.box, face.score, dict(zip(EMOTIONS, row.tolist(), strict=True)))
            for face, row in zip(self.faces, self.expression()[0], strict=True)
        ]

    def movement(self, speech: Sequence[Span]) -> float:
        """How much more the lips move while somebody speaks than in between, per sampled frame.

        The sum over all frames with speech is divided by their number, so that a face that is seen in few of them
        does not count as much as one that is seen throughout.
        """
        column = geometry.COLUMNS.index("lips_open")
        lips = np.array([np.nan if shape is None else shape[column] for shape in self.shapes])
        moved = np.nan_to_num(np.abs(np.diff(lips)))
        middle = (np.array(self.times[1:]) + np.array(self.times[:-1])) / 2
        voiced = np.zeros(len(middle), bool)
        for span in speech:
            voiced |= (middle >= span.start) & (middle <= span.end)
        during, between = moved[voiced], moved[~voiced]
        return float((during.mean() if len(during) else 0.0) - (between.mean() if len(between) else 0.0))

    def size(self) -> float:
        """Share of the picture that it covers, mean over all frames."""
        areas = [(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]) for face in self.faces]
        return sum(areas) / max(1, len(self.times))


def matches(faces: Sequence[DetectedFace], tracks: Sequence[FollowedFace]) -> list[FollowedFace | None]:
    """The track of each face in a new frame: that whose last box it overlaps most; None for a face that is new.

    Pairs are taken in the order of their overlap, and no track gets two faces of a frame.
    """
    pairs = [
        (overlap(face.box, track.last.box), i, j)
        for i, face in enumerate(faces)
        for j, track in enumerate(tracks)
        if track.last is not None and track.times[-1] - track.faces[-1].time <= _LOST
    ]
    found: list[FollowedFace | None] = [None] * len(faces)
    taken: set[int] = set()
    for shared, i, j in sorted(pairs, reverse=True):
        if shared > SAME_FACE and found[i] is None and j not in taken:
            found[i] = tracks[j]
            taken.add(j)
    return found


def speaking_first(tracks: Sequence[FollowedFace], speech: Sequence[Span]) -> list[FollowedFace]:
    """The tracks, that of the speaker first: whose lips move most while somebody speaks, else the largest face."""
    if not speech:
        return sorted(tracks, key=lambda track: -track.size())
    return sorted(tracks, key=lambda track: (-track.movement(speech), -track.size()))

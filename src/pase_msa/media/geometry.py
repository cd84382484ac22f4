"""Numbers from the points of a face: its place, the turn of the head, the shape of eyes, brows and mouth."""

from __future__ import annotations

import numpy as np

from pase_msa.data.columns import Array

COLUMNS = (
    *("face_x", "face_y", "face_size"),
    *("yaw", "pitch", "roll"),
    *("eye_left", "eye_right"),
    *("brow_left", "brow_right", "brows_apart"),
    *("mouth_width", "mouth_open", "lips_open", "corner_left", "corner_right"),
)
# numbers of points in the face mesh, seen from the camera
_EYES = {"left": (33, 133, 159, 145), "right": (362, 263, 386, 374)}  # two corners, upper and lower lid
_BROWS = {"left": 105, "right": 334}
_INNER_BROWS = (107, 336)
_MOUTH = (61, 291)
_LIPS = (0, 17)  # outer edge, above and below
_INNER_LIPS = (13, 14)
_FOREHEAD, _CHIN, _CHEEKS = 10, 152, (234, 454)


def describe(mesh: Array, width: int, height: int) -> Array:
    """Sixteen numbers about a face, in the order of `COLUMNS`.

    Place and size are fractions of the picture, angles are in radians, all else is in units of the distance between the
    eyes, measured after the turn of the head was undone.

    Args:
        mesh: points [468, 3] in pixels.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    centre = mesh.mean(0)
    axes = _axes(mesh)
    straight = (mesh - centre) @ axes.T  # x to the right, y down, z away
    inner = [straight[list(corners[:2])].mean(0) for corners in _EYES.values()]
    unit = float(np.linalg.norm(inner[1] - inner[0])) or 1.0
    p = straight / unit
    x, y = axes[:2]
    middle = p[list(_INNER_LIPS), 1].mean()
    return np.array(
        [
            centre[0] / width,
            centre[1] / height,
            unit / width,
            np.arcsin(np.clip(x[2], -1, 1)),
            np.arcsin(np.clip(y[2], -1, 1)),
            np.arctan2(x[1], x[0]),
            *(p[lower, 1] - p[upper, 1] for _, _, upper, lower in _EYES.values()),
            *(p[list(_EYES[side][:2]), 1].mean() - p[_BROWS[side], 1] for side in _EYES),
            np.abs(p[_INNER_BROWS[1], 0] - p[_INNER_BROWS[0], 0]),
            np.abs(p[_MOUTH[1], 0] - p[_MOUTH[0], 0]),
            p[_LIPS[1], 1] - p[_LIPS[0], 1],
            p[_INNER_LIPS[1], 1] - p[_INNER_LIPS[0], 1],
            *(middle - p[corner, 1] for corner in _MOUTH),
        ],
        dtype=np.float32,
    )


def _axes(mesh: Array) -> Array:
    """The head's own axes as rows: right, down, away from the camera."""
    right = mesh[_CHEEKS[1]] - mesh[_CHEEKS[0]]
    right = right / (np.linalg.norm(right) or 1.0)
    down = mesh[_CHIN] - mesh[_FOREHEAD]
    down = down - (down @ right) * right
    down = down / (np.linalg.norm(down) or 1.0)
    return np.stack([right, down, np.cross(right, down)])

"""Several faces: each is followed over time, and the one whose mouth moves with the voice is read."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pase_msa.media import geometry
from pase_msa.media.base import Media
from pase_msa.media.clip import Span
from pase_msa.media.decode import Info
from pase_msa.media.expression import EMOTIONS, STATES
from pase_msa.media.face import DetectedFace
from pase_msa.media.vision import Config, FaceTrack

LEFT, RIGHT = (20.0, 60.0, 90.0, 130.0), (200.0, 60.0, 260.0, 120.0)  # the left face is the larger one
SECONDS, RATE = 4, 5
SPEECH = [Span(1.0, 3.0)]


def mesh(centre, opened):
    """A face of 468 points whose lower lip is `opened` below the upper one, in pixels."""
    points = np.random.default_rng(0).normal(size=(468, 3)) * [20, 25, 5]
    points[[234, 454, 10, 152]] = [[-30, 0, 0], [30, 0, 0], [0, -35, 0], [0, 35, 0]]
    points[[13, 14]] = [[0, 15, 0], [0, 15 + opened, 0]]
    return points + np.array([*centre, 0])


class Scene:
    """Two people; `talks` says for each box and time how far the mouth is open."""

    def __init__(self, talks, boxes=lambda time: (LEFT, RIGHT)):
        self.talks, self.boxes, self.time = talks, boxes, 0.0

    def frames(self, rate, side):
        for i in range(SECONDS * RATE):
            self.time = i / RATE
            yield self.time, Image.new("RGB", (320, 240))

    def find(self, image):
        eyes = np.zeros((2, 2))
        return [DetectedFace(np.array(box), eyes, 0.9) for box in self.boxes(self.time)]

    def mesh(self, image, face):
        return mesh((face.box[:2] + face.box[2:]) / 2, self.talks(tuple(face.box), self.time))


def read(crops):
    return np.full((len(crops), len(EMOTIONS)), 1 / len(EMOTIONS)), np.zeros((len(crops), STATES))


def extracted(scene, face="speaking", speech=SPEECH):
    track = object.__new__(FaceTrack)  # without its networks
    track.config = Config(face=face)
    track.columns = [*geometry.COLUMNS, *EMOTIONS]
    track.dim = len(track.columns)
    track.find, track.mesh = scene.find, scene.mesh
    track.read = type(
        "Reader", (), {"crop": lambda self, *_: np.zeros((64, 64)), "__call__": lambda self, c: read(c)}
    )()
    media = Media("a.mp4", Info(SECONDS, True, True, 320, 240), end=SECONDS, speech=speech)
    media.frames = scene.frames
    return track.extract(media), media


def chews(time):
    return 3.0 * (round(RATE * time) % 2)


def within(time):
    return SPEECH[0].start <= time <= SPEECH[0].end


@pytest.mark.parametrize(("speaker", "other"), [(LEFT, RIGHT), (RIGHT, LEFT)])
def test_the_face_whose_mouth_moves_with_the_voice_is_read(speaker, other):
    def talks(box, time):  # one moves its mouth as somebody speaks, the other one all the time but then
        return chews(time) if within(time) == (box == speaker) else 0.0

    track, media = extracted(Scene(talks))
    assert len(media.face_tracks) == 2
    chosen, left = media.face_tracks
    assert media.faces == chosen
    assert [face.box[0] for face in chosen] == pytest.approx([speaker[0] / 320] * SECONDS * RATE)
    assert [face.box[0] for face in left] == pytest.approx([other[0] / 320] * SECONDS * RATE)
    assert track.values[:, geometry.COLUMNS.index("face_x")] * 320 == pytest.approx(
        (speaker[0] + speaker[2]) / 2, abs=4
    )
    assert media.notes == ["2 faces were followed; vision is of the one whose mouth moves with the voice."]


def test_without_speech_the_largest_face_is_read():
    _, media = extracted(Scene(lambda box, time: chews(time)), speech=[])
    assert media.faces[0].box[0] == pytest.approx(LEFT[0] / 320)


def test_a_face_that_moves_is_one_track_and_one_that_comes_later_another():
    def boxes(time):
        moved = tuple(np.array(LEFT) + np.array([20 * time, 0, 20 * time, 0]))
        return (moved, RIGHT) if time >= 2 else (moved,)

    def talks(box, time):
        return chews(time) if box == RIGHT else 0.0

    track, media = extracted(Scene(talks, boxes))
    assert [len(faces) for faces in media.face_tracks] == [10, 20]
    assert np.isnan(track.values[:10]).all()  # the speaker is not seen yet
    assert np.isfinite(track.values[10:]).all()


def test_a_largest_face_is_followed_alone():
    _, media = extracted(Scene(lambda box, time: 0.0), face="largest")
    assert len(media.face_tracks) == 1
    assert media.notes == []


def test_a_scene_without_a_face_has_no_vision():
    track, media = extracted(SimpleNamespace(frames=Scene(None).frames, find=lambda image: [], mesh=None))
    assert track is None
    assert media.notes == ["No face was found, so vision is absent."]

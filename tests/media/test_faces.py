"""Faces: place of the box, laws of the geometry, expression against the quantised network."""

import numpy as np
import pytest
from PIL import Image

from pase_msa.media import geometry
from pase_msa.media.example_clip import PORTRAIT, portrait
from pase_msa.media.expression import EXPRESSION, ExpressionReader
from pase_msa.media.face import FaceFinder, FaceMesh, overlap
from pase_msa.media.vision import Config, FaceTrack


@pytest.fixture(scope="module")
def astronaut():
    return Image.open(PORTRAIT.path()).convert("RGB")


@pytest.fixture(scope="module")
def find():
    return FaceFinder(0.5)


@pytest.fixture(scope="module")
def mesh():
    return FaceMesh()


def test_the_face_is_found(astronaut, find):
    (face,) = find(astronaut)
    # the face of this picture lies here, by eye
    assert overlap(face.box, np.array([175.0, 60.0, 270.0, 165.0])) > 0.5


def test_there_is_no_face_in_noise(find):
    rng = np.random.default_rng(0)
    assert find(Image.fromarray(rng.integers(0, 255, (200, 300, 3), np.uint8))) == []


@pytest.mark.parametrize("size", [(512, 512), (256, 256), (1024, 1024)])
def test_the_box_scales_with_the_picture(astronaut, find, size):
    (large,), (small,) = find(astronaut), find(astronaut.resize(size))
    assert overlap(large.box * size[0] / 512, small.box) > 0.85


def test_the_points_lie_on_the_face(astronaut, find, mesh):
    (face,) = find(astronaut)
    points = mesh(astronaut, face)
    assert points.shape == (468, 3)
    eyes = points[[33, 133, 362, 263], :2].reshape(2, 2, 2).mean(1)
    assert np.abs(eyes - face.eyes).max() < 8  # two networks, pixels
    assert points[152, 1] > points[13, 1] > points[1, 1] > points[10, 1]  # chin, mouth, nose, forehead


def test_a_turned_picture_turns_the_head(astronaut, find, mesh):
    rolls = []
    for angle in (0, 15):
        image = astronaut.rotate(-angle, resample=Image.Resampling.BILINEAR, center=(222, 112))
        (face,) = find(image)
        described = geometry.describe(mesh(image, face), *image.size)
        rolls.append(described[geometry.COLUMNS.index("roll")])
    assert np.degrees(rolls[1] - rolls[0]) == pytest.approx(15, abs=3)


def rotation(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shape_does_not_depend_on_place_size_and_turn(astronaut, find, mesh, axis):
    (face,) = find(astronaut)
    points = mesh(astronaut, face)
    one = geometry.describe(points, 512, 512)
    centre = points.mean(0)
    turned = 1.7 * (points - centre) @ rotation(axis, 0.2).T + centre + [30, -20, 5]
    other = geometry.describe(turned, 512, 512)
    np.testing.assert_allclose(other[6:], one[6:], atol=1e-5)
    assert np.abs(other[:6] - one[:6]).max() > 0.03
    assert other[2] == pytest.approx(1.7 * one[2], rel=1e-5)


def test_an_opened_mouth_is_open(astronaut, find, mesh):
    (face,) = find(astronaut)
    points = mesh(astronaut, face)
    opened = points.copy()
    opened[[14, 17], 1] += 10  # the lower lip
    before, after = (dict(zip(geometry.COLUMNS, geometry.describe(p, 512, 512), strict=True)) for p in (points, opened))
    for name in ("lips_open", "mouth_open"):
        assert after[name] > before[name] + 0.05
    assert after["eye_left"] == pytest.approx(before["eye_left"], abs=0.01)


def test_the_expression_network_agrees_with_its_quantised_twin(astronaut, find):
    from ai_edge_litert.interpreter import Interpreter

    reader = ExpressionReader()
    (face,) = find(astronaut)
    rng = np.random.default_rng(0)
    crops = [reader.crop(astronaut, face)]
    crops += [np.clip(crops[0] * a + b, -1, 1) for a, b in rng.uniform(-0.5, 0.5, (7, 2))]
    crops += [np.fliplr(crops[0]), np.flipud(crops[0])]
    stacked = np.stack(crops).astype(np.float32)
    mine, states = reader(stacked)
    assert states.shape == (10, 128)
    twin = Interpreter(str(EXPRESSION.path().with_name("emotion_model_quantized.tflite")), num_threads=1)
    twin.allocate_tensors()
    for crop, probabilities in zip(stacked, mine, strict=True):
        twin.set_tensor(twin.get_input_details()[0]["index"], crop[None, :, :, None])
        twin.invoke()
        theirs = twin.get_tensor(twin.get_output_details()[0]["index"])[0]
        assert np.abs(theirs - probabilities).max() < 0.1  # eight bits against thirty-two


def test_the_smile_is_happy(astronaut, find):
    reader = ExpressionReader()
    (face,) = find(astronaut)
    probabilities, _ = reader(reader.crop(astronaut, face)[None])
    assert probabilities[0, 3] > 0.9


def test_the_largest_or_the_most_central_face_is_followed():
    image = Image.new("RGB", (640, 360), (40, 44, 52))
    image.paste(portrait(330, 330, 1.0), (0, 15))
    image.paste(portrait(200, 200, 1.0).crop((25, 25, 175, 175)), (330, 100))
    chosen = {}
    for which in ("largest", "central"):
        track = FaceTrack(Config(face=which))
        faces = track.find(image)
        assert len(faces) == 2
        chosen[which] = track.choose(faces, image, None)
        # once chosen, it is followed whatever the rule
        for other in ("largest", "central"):
            track.config.face = other
            assert track.choose(faces, image, chosen[which]) is chosen[which]
    assert chosen["largest"].box[0] < chosen["central"].box[0]

"""Every container gives streams or one sentence; which of several streams is read."""

import fractions
import io
import os
import wave
import zipfile

import av
import numpy as np
import pytest
from PIL import Image

from pase_msa import PaSEError
from pase_msa.media.decode import RATE, probe, read_audio, read_frames

TONE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)).astype(np.float32)
SILENT = np.zeros_like(TONE)


def write(path, *, tracks=(), pictures=None, cover=False, codec="aac", rate=RATE, default=None, format=None):
    """A file with tracks [channels, n], moving pictures (codec, pixel format, size) and a cover."""
    layouts = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
    with av.open(str(path), "w", format=format) as out:
        streams = [out.add_stream(codec, rate=rate, layout=layouts[len(np.atleast_2d(track))]) for track in tracks]
        for i, stream in enumerate(streams):
            if default is not None:
                stream.disposition = av.stream.Disposition.default if i == default else av.stream.Disposition(0)
        if pictures:
            name, pixels, (width, height) = pictures
            video = out.add_stream(name, rate=10)
            video.width, video.height, video.pix_fmt = width, height, pixels
        if cover:
            art = out.add_stream("mjpeg")
            art.width, art.height, art.pix_fmt, art.time_base = 64, 64, "yuvj420p", fractions.Fraction(1, 90_000)
            art.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 64))).reformat(format="yuvj420p")
            frame.pts, frame.time_base = 0, art.time_base
            out.mux(art.encode(frame) + art.encode(None))
        if pictures:
            for _ in range(3):
                out.mux(video.encode(av.VideoFrame.from_image(Image.new("RGB", (width, height), "red"))))
            out.mux(video.encode(None))
        for stream, track in zip(streams, tracks, strict=True):
            planes = np.ascontiguousarray(np.atleast_2d(track))
            frame = av.AudioFrame.from_ndarray(planes.T.reshape(1, -1), format="flt", layout=layouts[len(planes)])
            frame.sample_rate = rate
            convert = av.AudioResampler(format=stream.format, layout=stream.layout, rate=rate)
            for part in [*convert.resample(frame), *convert.resample(None)]:
                out.mux(stream.encode(part))
            out.mux(stream.encode(None))
    return path


def loudness(path, notes=None):
    return float(np.abs(read_audio(path, notes=notes)).max(initial=0))


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "libmp3lame"), ("a.m4a", "aac"), ("a.flac", "flac")])
def test_a_cover_is_no_video(name, codec, tmp_path):
    path = write(tmp_path / name, tracks=[TONE], cover=True, codec=codec, format="mp4" if name == "a.m4a" else None)
    info = probe(path)
    assert (info.audio, info.video) == (True, False)
    assert list(read_frames(path, 5, 64)) == []


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_of_several_tracks_one_that_can_be_heard_is_read(name, tmp_path):
    notes = []
    path = write(tmp_path / name, tracks=[SILENT, TONE], pictures=("mpeg4", "yuv420p", (32, 32)))
    assert loudness(path, notes) > 0.2
    assert any("2 audio tracks; the default one is silent" in note for note in notes)


def test_the_default_track_is_read(tmp_path):
    notes = []
    path = write(tmp_path / "a.mkv", tracks=[0.1 * TONE, TONE], default=1)
    assert loudness(path, notes) > 0.2
    assert notes == ["The file has 2 audio tracks; the default one was read."]


def test_tracks_that_are_all_silent_are_silent(tmp_path):
    assert loudness(write(tmp_path / "a.mkv", tracks=[SILENT, SILENT])) < 1e-4


@pytest.mark.parametrize("channels", [[TONE, -TONE], [TONE, -0.99 * TONE], [TONE, -TONE, SILENT, SILENT, TONE, -TONE]])
def test_channels_that_cancel_give_the_louder_one(channels, tmp_path):
    notes = []
    assert loudness(write(tmp_path / "a.wav", tracks=[np.stack(channels)], codec="pcm_s16le"), notes) > 0.2
    assert len(notes) == 1
    assert "cancel" in notes[0]


@pytest.mark.parametrize("speaks", [0, 1])
def test_a_channel_that_speaks_alone_is_heard(speaks, tmp_path):
    tracks = [np.stack([TONE if i == speaks else SILENT for i in range(2)])]
    assert loudness(write(tmp_path / "a.wav", tracks=tracks, codec="pcm_s16le")) > 0.1


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s24le", "pcm_f32le", "pcm_s32le", "pcm_mulaw", "pcm_f64le"])
def test_sample_formats(codec, tmp_path):
    sound = read_audio(write(tmp_path / "a.wav", tracks=[TONE], codec=codec))
    assert len(sound) == pytest.approx(len(TONE), abs=64)
    assert np.abs(sound).max() == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("count", "rate"), [(8, 16_000), (6, 48_000), (2, 192_000), (1, 4_000)])
def test_channels_and_rates(count, rate, tmp_path):
    sound = read_audio(write(tmp_path / "a.wav", tracks=[np.stack([TONE] * count)], codec="pcm_s16le", rate=rate))
    assert len(sound) == pytest.approx(len(TONE) * RATE / rate, rel=0.05)
    assert np.abs(sound).max() > 0.2


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "size"),
    [
        ("a.mkv", "libx264", "yuv420p10le", (32, 32)),
        ("a.mov", "qtrle", "argb", (33, 17)),
        ("a.mkv", "ffv1", "yuv444p", (15, 31)),
        ("a.mkv", "ffv1", "gray16le", (2, 2)),
        ("a.gif", "gif", "rgb8", (32, 16)),
        ("a.mkv", "ffv1", "yuva420p", (16, 16)),
    ],
)
def test_pixel_formats_and_sizes(name, codec, pixels, size, tmp_path):
    path = write(tmp_path / name, pictures=(codec, pixels, size))
    assert probe(path).video
    assert [image.size for _, image in read_frames(path, 10, 640)] == [size] * 3


def zipped():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("a.txt", "text")
    return content.getvalue()


NO_MEDIA = {
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="5" height="5"/></svg>',
    "svg with a declaration": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
    "zip": zipped(),
    "text": b"This is a text.\n" * 20,
    "html": b"<!doctype html><html><body>404</body></html>",
    "subtitles": b"1\n00:00:00,000 --> 00:00:02,000\nHello.\n\n",
    "webvtt": b"WEBVTT\n\n00:00.000 --> 00:02.000\nHello.\n",
    "playlist": b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n#EXT-X-ENDLIST\n",
    "list of files": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "midi": b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x00\x60MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
    "start of a png": b"\x89PNG\r\n\x1a\n",
    "start of a wav": b"RIFF\x24\x00\x00\x00WAVE",
    "zeros": bytes(4096),
}


@pytest.mark.parametrize("suffix", [".mp4", ".wav"])
@pytest.mark.parametrize("content", NO_MEDIA)
def test_what_is_no_media_is_one_sentence(content, suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(NO_MEDIA[content])
    with pytest.raises(PaSEError) as error:
        probe(path)
    assert str(error.value).endswith(".")


def test_a_sound_of_no_samples_is_silent(tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
    assert len(read_audio(path)) == 0


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").symlink_to("/dev/zero")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(PaSEError, match="no plain file"):
            probe(tmp_path / name)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_file_gives_streams_or_one_sentence(seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("damaged")
    name, codec = [("a.mp4", "aac"), ("a.mkv", "pcm_s16le"), ("a.avi", "pcm_s16le"), ("a.wav", "pcm_s16le")][seed % 4]
    pictures = None if name == "a.wav" else ("mpeg4", "yuv420p", (32, 32))
    path = write(folder / name, tracks=[np.stack([TONE, TONE])], pictures=pictures, codec=codec)
    content = bytearray(path.read_bytes())
    if seed % 3 == 0:
        del content[rng.integers(1, len(content)) :]
    for place in rng.integers(0, len(content), 12):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    try:
        probe(path)
        sound = read_audio(path)
        pictures = [image for _, image in read_frames(path, 5, 64)]
    except PaSEError as error:
        assert str(error).endswith(".")  # noqa: PT017
    else:
        assert np.isfinite(sound).all()
        assert all(image.mode == "RGB" for image in pictures)

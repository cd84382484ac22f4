"""Broken and odd media are refused with one sentence, or a modality is absent."""

import numpy as np
import pytest
from PIL import Image

from pase_msa import PaSEError
from pase_msa.media.decode import RATE, probe, read_audio, read_frames
from pase_msa.media.example_clip import portrait, speak, write_clip


def noise(count, size=(64, 48)):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)) for _ in range(count)]


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_an_empty_file(extractor, tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(PaSEError) as error:
        extractor.extract_clip(tmp_path / "a.mp4")
    assert "is empty (0 bytes)" in one_sentence(error)


def test_a_missing_file(extractor, tmp_path):
    with pytest.raises(PaSEError, match="There is no file"):
        extractor.extract_clip(tmp_path / "a.mp4")


def test_a_file_without_its_end(extractor, media, tmp_path):
    whole = (media / "video.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])  # the index of an MP4 is at its end
    with pytest.raises(PaSEError) as error:
        extractor.extract_clip(tmp_path / "a.mp4")
    assert "cannot be read as video or audio" in one_sentence(error)


def test_a_stream_without_its_end_is_read_as_far_as_it_goes(extractor, tmp_path, media):
    sound, rate = speak("This is good. This is good. This is good.")
    frames = [portrait(160, 120, 0.5)] * 30
    path = write_clip(tmp_path / "whole.mkv", sound=sound, rate=rate, frames=frames)
    content = path.read_bytes()
    (tmp_path / "part.mkv").write_bytes(content[: 2 * len(content) // 3])
    clip = extractor.extract_clip(tmp_path / "part.mkv")
    assert clip.features


def test_no_sound(extractor, tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=[portrait(160, 120, i / 9) for i in range(10)])
    clip = extractor.extract_clip(path)
    assert list(clip.features) == ["vision"]
    assert clip.aligned == "window"
    assert len(clip.features["vision"]) == 2  # a second in windows of half a second
    assert "There is no sound, so audio is absent." in clip.notes


def test_no_pictures(extractor, media):
    clip = extractor.extract_clip(media / "sound.wav")
    assert list(clip.features) == ["text", "audio"]
    assert clip.faces == []


def test_silence(extractor, tmp_path):
    frames = [portrait(160, 120, i / 9) for i in range(10)]
    path = write_clip(tmp_path / "a.mp4", sound=np.zeros(RATE, np.int16), rate=RATE, frames=frames)
    clip = extractor.extract_clip(path)
    assert list(clip.features) == ["vision"]
    assert "The sound is silent, so audio is absent." in clip.notes


def test_sound_without_speech_has_no_text(extractor, tmp_path):
    rng = np.random.default_rng(0)
    path = write_clip(tmp_path / "a.wav", sound=rng.normal(0, 2000, 2 * RATE).astype(np.int16), rate=RATE)
    clip = extractor.extract_clip(path)
    assert list(clip.features) == ["audio"]
    assert clip.text is None
    assert "Nobody speaks, so text is absent." in clip.notes


def test_a_text_for_a_silent_clip_is_kept(extractor, tmp_path):
    frames = [portrait(160, 120, i / 9) for i in range(10)]
    path = write_clip(tmp_path / "a.mp4", sound=np.zeros(RATE, np.int16), rate=RATE, frames=frames)
    clip = extractor.extract_clip(path, "He only looks.")
    assert clip.text == "He only looks."
    assert {name: len(values) for name, values in clip.features.items()} == {"text": 3, "vision": len(clip.steps)}
    assert clip.aligned == "window"


def test_no_face(extractor, tmp_path):
    sound, rate = speak("Nobody is to be seen here.")
    clip = extractor.extract_clip(write_clip(tmp_path / "a.mp4", sound=sound, rate=rate, frames=noise(15)))
    assert list(clip.features) == ["text", "audio"]
    assert "No face was found, so vision is absent." in clip.notes


def test_a_face_that_comes_late(extractor, tmp_path):
    sound, rate = speak("First there is nobody, but then somebody comes.")
    frames = [*noise(15, (160, 120)), *(portrait(160, 120, 0.5) for _ in range(15))]
    clip = extractor.extract_clip(write_clip(tmp_path / "a.mp4", sound=sound, rate=rate, frames=frames))
    seen = np.isfinite(clip.features["vision"]).all(1)
    assert not seen[0]
    assert seen[-1]
    assert any(note.startswith("A face was found in") for note in clip.notes)


def test_a_video_under_the_name_of_a_text(extractor, media, tmp_path):
    (tmp_path / "a.txt").write_bytes((media / "video.mp4").read_bytes())
    assert list(extractor.extract_clip(tmp_path / "a.txt").features) == ["text", "audio", "vision"]


def test_a_sound_under_the_name_of_a_video(extractor, media, tmp_path):
    (tmp_path / "a.mp4").write_bytes((media / "sound.wav").read_bytes())
    assert list(extractor.extract_clip(tmp_path / "a.mp4").features) == ["text", "audio"]


@pytest.mark.parametrize("content", [b"This is a text.", bytes(range(256)) * 20])
def test_other_content_under_the_name_of_a_video(content, extractor, tmp_path):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(PaSEError) as error:
        extractor.extract_clip(tmp_path / "a.mp4")
    assert "cannot be read as video or audio" in one_sentence(error)


@pytest.mark.parametrize("content", [b"", b"  \n", b"\xff\xfe\x00binary\x00"])
def test_other_content_under_the_name_of_a_text(content, extractor, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(PaSEError, match=r"a\.txt was to (be|hold) a text"):
        extractor.extract_clip(tmp_path / "a.txt")


def test_a_playlist_opens_no_other_file(extractor, media, tmp_path):
    (tmp_path / "a.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{media / 'video.mp4'}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(PaSEError, match="cannot be read as video or audio"):
        extractor.extract_clip(tmp_path / "a.m3u8")


def test_one_frame(extractor, tmp_path):
    clip = extractor.extract_clip(write_clip(tmp_path / "a.mp4", frames=[portrait(160, 120, 0.5)]))
    assert clip.features["vision"].shape == (1, 23)


def test_a_photograph(extractor, tmp_path):
    portrait(160, 120, 0.5).save(tmp_path / "a.png")
    assert extractor.extract_clip(tmp_path / "a.png").features["vision"].shape == (1, 23)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_a_tone_keeps_its_pitch_at_any_rate(rate, tmp_path):
    tone = 10_000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    sound = read_audio(write_clip(tmp_path / "a.wav", sound=tone.astype(np.int16), rate=rate))
    assert len(sound) == pytest.approx(RATE, abs=64)
    assert np.abs(np.fft.rfft(sound, RATE)).argmax() == pytest.approx(440, abs=2)


@pytest.mark.parametrize(("frame_rate", "expected"), [(7, 10), (3, 6), (30, 10)])
def test_frames_are_sampled_at_most_at_the_rate(frame_rate, expected, tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=noise(2 * frame_rate), frame_rate=frame_rate)
    times = [time for time, _ in read_frames(path, 5, 640)]
    assert len(times) == expected
    assert np.diff(times).min() > 0
    assert times == pytest.approx(np.arange(expected) / min(5, frame_rate), abs=1 / frame_rate + 1e-6)


def test_large_pictures_are_scaled_down(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=[Image.new("RGB", (4096, 2304))] * 2)
    assert [image.size for _, image in read_frames(path, 5, 640)] == [(640, 360)]


def test_huge_pictures_are_refused(extractor, tmp_path):
    Image.new("L", (9000, 8000)).save(tmp_path / "a.png")
    with pytest.raises(PaSEError) as error:
        extractor.extract_clip(tmp_path / "a.png")
    assert "9000 x 8000 pixels, more than 64 million" in one_sentence(error)


def test_a_probe_gives_size_rates_and_duration(media):
    info = probe(media / "video.mp4")
    assert (info.width, info.height, info.frame_rate, info.sample_rate) == (320, 240, 10.0, 22_050)
    assert info.duration > 2

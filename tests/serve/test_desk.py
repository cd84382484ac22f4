"""The page's desk: turns, tickets, what is kept and for how long. The predictor is a fake: no network is loaded."""

import threading
import time
import wave
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra `media` is not installed")
from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip, Track
from pase_msa.serve import desk as module
from pase_msa.serve.desk import Desk, Source
from pase_msa.serve.pieces import Progress
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.results import ClipResult, UtteranceResult
from pase_msa.serve.turns import Turns


class Predictor:
    """As many utterances as seconds; each piece waits for `go`."""

    def __init__(self):
        self.go = threading.Event()
        self.go.set()
        self.order, self.speakers, self.languages = [], [], []

    def check_masked(self, without):
        if set(without) >= {"text", "audio"}:
            raise PaSEError("Nothing is left to predict from.")

    def extract_pieces(self, path, text=None, *, progress, options):
        self.speakers.append(options.speakers)
        self.languages.append(options.language)
        if path is None:
            count = 1
        else:
            with wave.open(str(path)) as file:
                count = file.getnframes() // file.getframerate()
        for number in range(count):
            progress(Progress("words", number / count / 2, number + 1, count))
            assert self.go.wait(10)
            self.order.append((path.name if path else "text", number))
            yield
        track = Track(np.ones((1000, 4), np.float32), np.arange(1000.0))
        return [Clip(str(path), float(i), 1.0, text="yes", tracks={"audio": track}) for i in range(count)]

    def predict_pieces(self, clips, *, without, words, name, progress):
        progress(Progress("predict", 0.5, 1, len(clips)))
        yield
        prediction = Prediction("a", float(len(without)), None, 0.7, {"text": 0.0, "audio": 0.0}, {})
        items = [UtteranceResult(c.start, c.start + 1, c.text, prediction, 0.0, [], [], ["text"]) for c in clips]
        return ClipResult(name, float(len(clips)), prediction, 0.0, items, {}, list(without))


@pytest.fixture
def clock():
    return SimpleNamespace(now=0.0)


@pytest.fixture
def desk(clock):
    desk = Desk(Predictor(), 100.0, lambda: clock.now)
    yield desk
    desk.predictor.go.set()
    desk.close()


def sound(path, seconds):
    path.parent.mkdir(exist_ok=True)  # the folder of an upload goes with it
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000 * seconds))
    return path


def until(look, seconds=10):
    end = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < end
        time.sleep(0.005)


def read(desk, *paths, kind="video", **options):
    ticket = desk.hand_in(kind, [Source(path) for path in paths], without=(), words=True)
    until(lambda: ticket.done)
    return ticket


def test_work_takes_turns_by_pieces():
    done, started = [], threading.Event()

    def work(name, pieces):
        for number in range(pieces):
            assert started.wait(10)
            done.append(f"{name}{number}")
            yield

    turns = Turns()
    for name, pieces in (("a", 4), ("b", 1), ("c", 2)):
        turns.add(work(name, pieces))
    started.set()
    until(lambda: len(done) == 7)
    turns.close()
    assert done == ["a0", "b0", "c0", "a1", "c1", "a2", "a3"]


def test_work_that_fails_leaves_the_line_to_others(caplog):
    done = threading.Event()

    def bad():
        yield 1 / 0

    def good():
        done.set()
        yield

    turns = Turns()
    turns.add(bad())
    turns.add(good())
    assert done.wait(10)
    turns.close()
    assert "ZeroDivisionError" in caplog.text


def test_a_short_recording_does_not_wait_for_a_long_one(desk, tmp_path):
    desk.predictor.go.clear()
    long = desk.hand_in("sound", [Source(sound(tmp_path / "long.wav", 30))], without=(), words=True)
    short = desk.hand_in("sound", [Source(sound(tmp_path / "short.wav", 1))], without=(), words=True)
    desk.predictor.go.set()
    until(lambda: long.done and short.done)
    place = desk.predictor.order.index(("short.wav", 0))
    assert place <= 2
    assert len(desk.predictor.order) == 31


def test_an_upload_is_on_disk_only_while_it_is_read(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path / "work"))
    (tmp_path / "work").mkdir()
    (tmp_path / "uploads" / "hash").mkdir(parents=True)
    path = sound(tmp_path / "uploads" / "hash" / "talk.wav", 4)
    content = path.read_bytes()
    desk.predictor.go.clear()
    ticket = desk.hand_in("sound", [Source(path)], without=(), words=True)
    until(lambda: ticket.readings[0].progress.stage == "words")
    assert [file.name for file in tmp_path.rglob("*.wav")] == ["talk.wav"]
    assert not path.exists()
    assert ticket.fraction == 0
    desk.predictor.go.set()
    until(lambda: ticket.done)
    assert ticket.fraction == 1
    assert not list((tmp_path / "work").iterdir())
    assert not list((tmp_path / "uploads").iterdir())
    assert ticket.readings[0].media == content
    # what was extracted is kept without the values that nothing needs any more
    assert ticket.readings[0].clips[0].tracks["audio"].values.size == 0


def test_a_file_that_is_no_upload_stays(desk, tmp_path):
    path = sound(tmp_path / "example.wav", 1)
    ticket = desk.hand_in("example", [Source(path, upload=False)], without=(), words=True)
    until(lambda: ticket.done)
    assert path.exists()
    assert ticket.readings[0].result.name == "example.wav"


def test_a_clip_that_is_kept_is_read_again_from_memory(desk, tmp_path):
    first = read(desk, sound(tmp_path / "a.wav", 2)).readings[0]
    ticket = desk.hand_in("video", [Source(None, media=first.media, name=first.name)], without=(), words=True)
    until(lambda: ticket.done)
    assert ticket.readings[0].result == first.result


def test_speakers_are_told_apart_in_recordings_and_a_language_holds_for_texts_too(desk, tmp_path):
    asked = {"speakers": "auto", "language": "de"}
    sources = [Source(sound(tmp_path / "a.wav", 1), **asked), Source(None, "Fine.", **asked)]
    ticket = desk.hand_in("several", sources, without=(), words=False)
    until(lambda: ticket.done)
    assert desk.predictor.speakers == ["auto", None]
    assert desk.predictor.languages == ["de", "de"]


def test_an_upload_that_is_gone_is_a_sentence(desk, tmp_path):
    with pytest.raises(PaSEError, match=r"gone.wav is no longer there; choose the file again"):
        desk.hand_in("video", [Source(tmp_path / "gone.wav")], without=(), words=True)
    assert desk.hand_in("text", [Source(None, "Fine.")], without=(), words=True)


def test_one_clip_that_fails_leaves_the_others_alone(desk, tmp_path):
    broken = tmp_path / "upload" / "broken.mp4"
    broken.parent.mkdir()
    broken.write_bytes(b"no media")
    ticket = read(desk, broken, sound(tmp_path / "long.wav", 101), sound(tmp_path / "good.wav", 2), kind="several")
    bad, long, good = ticket.readings
    assert "broken.mp4 cannot be read" in bad.sentence
    assert str(tmp_path) not in bad.sentence
    assert long.sentence == "long.wav is 101 s long, and this page takes 100 s at most; cut it."
    assert len(good.result.utterances) == 2
    assert good.media is None  # of several clips none is played


def test_answers_are_forgotten_after_a_while_and_the_oldest_first(desk, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ANSWERS", 2)
    tickets = []
    for i in range(3):
        clock.now += 1
        tickets.append(read(desk, sound(tmp_path / f"{i}.wav", 1)))
    assert [desk.find(ticket.id) is None for ticket in tickets] == [True, False, False]
    clock.now += module.KEEP - 0.5
    assert [desk.find(ticket.id) is None for ticket in tickets[1:]] == [True, False]
    assert desk.find(None) is None


def test_recordings_are_kept_up_to_a_limit_of_memory(desk, clock, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 40_000)
    tickets = []
    for i in range(3):
        clock.now += 1
        tickets.append(read(desk, sound(tmp_path / f"{i}.wav", 1)))  # 16 kB each
    assert [ticket.readings[0].media is None for ticket in tickets] == [True, False, False]
    assert all(desk.find(ticket.id).readings[0].result for ticket in tickets)


def test_more_recordings_than_may_be_open_are_refused(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "OPEN", 1)
    desk.predictor.go.clear()
    first = desk.hand_in("sound", [Source(sound(tmp_path / "a.wav", 2))], without=(), words=True)
    with pytest.raises(PaSEError, match="try again in a minute"):
        desk.hand_in("text", [Source(None, "Fine.")], without=(), words=True)
    with pytest.raises(PaSEError, match="no answer yet"):
        desk.mask(first, ["text"])


def test_other_modalities_are_masked_without_extracting_again(desk, tmp_path):
    ticket = read(desk, sound(tmp_path / "a.wav", 3))
    extracted = list(desk.predictor.order)
    desk.mask(ticket, ["audio"])
    until(lambda: ticket.done)
    assert ticket.readings[0].result.masked == ["audio"]
    assert desk.predictor.order == extracted
    with pytest.raises(PaSEError, match="Nothing is left"):
        desk.mask(ticket, ["audio", "text"])
    assert ticket.done

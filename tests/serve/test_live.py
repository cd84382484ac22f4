"""Live streams: what is cut, what is sent, what is refused. The predictor is a fake; the voice detector is real."""

import io
import json
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("faster_whisper")
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from pase_msa.cli.main import main
from pase_msa.data.table import Utterance
from pase_msa.errors import PaSEError
from pase_msa.media.clip import Clip
from pase_msa.media.config import ExtractConfig
from pase_msa.media.decode import RATE
from pase_msa.media.example_clip import speak
from pase_msa.media.speech import find_speech
from pase_msa.media.voice import FRAME, Cutter, VoiceStream
from pase_msa.serve import listening, live_socket
from pase_msa.serve.hosts import HostCheck
from pase_msa.serve.live import LiveLimits, LiveStream
from pase_msa.serve.live_room import LiveRoom, RoomFull
from pase_msa.serve.live_socket import add_live
from pase_msa.serve.predictor import Prediction
from pase_msa.serve.results import UtteranceResult
from pase_msa.task import Task

LIVE = "ws://localhost/live"


class Fake:
    """In place of `ClipPredictor`: the words are the length of the sound."""

    reads_before = True
    modalities = ("text", "audio")
    predictor = SimpleNamespace(model=SimpleNamespace(task=Task.regression(["text", "audio"], -3, 3)))

    def __init__(self):
        self.extractor = SimpleNamespace(config=ExtractConfig(["text", "audio"]))
        self.calls, self.before = [], []

    def extract_sound(self, sound, start):
        self.calls.append((round(start, 3), round(start + len(sound) / RATE, 3)))
        return Clip("", start, len(sound) / RATE, f"{len(sound) / RATE:.1f} seconds")

    def predict_in_turn(self, clip, before):
        self.before.append(len(before))
        prediction = Prediction("a", 1.0, None, 0.8, {"text": 0.5, "audio": 0.5}, {})
        item = UtteranceResult(clip.start, clip.start + clip.duration, clip.text, prediction, 0.0, [], [], ["text"])
        return item, Utterance(str(len(before)), "", "")


@pytest.fixture(scope="module")
def spoken():
    """Two utterances with a second of silence around each, int16 at 16 kHz, and noise of a microphone."""
    sound, rate = speak("This is a wonderful film.", speed=220)
    times = np.arange(round(len(sound) / rate * RATE)) / RATE
    words = np.interp(times, np.arange(len(sound)) / rate, sound) / 2
    silence = np.zeros(RATE)
    whole = np.concatenate([silence, words, silence, words, silence])
    return (whole + np.random.default_rng(0).normal(0, 5, len(whole))).astype(np.int16)


def blocks(sound, size=1600):
    return [sound[i : i + size] for i in range(0, len(sound), size)]


def play(stream, sound):
    """Feed a stream, predicting whatever is most urgent after every block."""
    for block in blocks(sound):
        stream.feed(block)
        settle(stream)
    stream.end()
    while not stream.done:
        settle(stream)


def settle(stream):
    stream.listen()
    while stream.urgency is not None:
        stream.work()
        stream.listen()


@pytest.mark.parametrize("longest", [20.0, 1.5])
def test_a_stream_is_cut_as_the_whole_sound_is(spoken, longest):
    sound = spoken.astype(np.float32) / 32768
    expected = find_speech(sound, threshold=0.5, pause=0.6, longest=longest)
    voice, cutter = VoiceStream(), Cutter(0.5, 0.6, longest)
    found = []
    for block in blocks(np.pad(sound, (0, -len(sound) % FRAME)), 3 * FRAME):
        found += [stretch for value in voice(block) if (stretch := cutter.add(float(value)))]
    found += [stretch] if (stretch := cutter.flush(len(sound))) else []
    assert [(item.start / RATE, item.end / RATE) for item in found] == [
        (pytest.approx(span.start, abs=0.04), pytest.approx(span.end, abs=0.04)) for span in expected
    ]
    assert len(found) == (2 if longest > 2 else len(expected))


def test_utterances_are_predicted_as_they_end_and_while_they_last(spoken):
    fake, messages = Fake(), []
    play(LiveStream(fake, messages.append, LiveLimits(every=0.5)), spoken)
    finals = [message for message in messages if message["type"] == "final"]
    assert [message["utterance"] for message in finals] == [0, 1]
    for final, span in zip(
        finals, find_speech(spoken.astype(np.float32) / 32768, threshold=0.5, pause=0.6), strict=True
    ):
        assert (final["start"], final["end"]) == (
            pytest.approx(span.start, abs=0.04),
            pytest.approx(span.end, abs=0.04),
        )
    kinds = [message["type"] for message in messages]
    assert kinds.index("partial") < kinds.index("final")
    assert {"score", "confidence", "contributions", "base", "text", "seconds"} <= set(finals[0])
    # what was said before is context, of final utterances only
    assert sorted(set(fake.before)) == [0, 1]
    # the result for a silence that may end an utterance is the final one, and not computed again
    assert len(fake.calls) == kinds.count("partial")
    assert len(set(fake.calls)) == len(fake.calls)


def test_without_partial_results_there_are_final_ones_only(spoken):
    messages = []
    play(LiveStream(Fake(), messages.append, LiveLimits(every=0)), spoken)
    assert [message["type"] for message in messages] == ["final", "final"]


def test_sound_that_comes_too_fast_is_dropped_from_its_beginning(spoken):
    messages = []
    stream = LiveStream(Fake(), messages.append, LiveLimits(buffer=2.0))
    stream.feed(np.zeros(RATE // 2, np.int16))
    settle(stream)
    for block in blocks(np.concatenate([np.zeros(4 * RATE, np.int16), spoken])):
        stream.feed(block)
    assert stream.waiting <= 2.0
    stream.end()
    while not stream.done:
        settle(stream)
    first, *rest = [message for message in messages if message["type"] in ("dropped", "final")]
    length = 4.5 + len(spoken) / RATE
    assert (first["type"], first["start"]) == ("dropped", pytest.approx(0.5))
    assert first["end"] == pytest.approx(length - 2.0, abs=0.11)
    assert "were dropped" in first["detail"]
    # times go on as if nothing had been lost
    assert length - 2.0 <= rest[-1]["start"] < rest[-1]["end"] <= length


def test_a_gap_ends_an_utterance(spoken):
    messages = []
    stream = LiveStream(Fake(), messages.append, LiveLimits(buffer=1.0))
    stream.feed(spoken[: 2 * RATE])
    stream._waiting.clear()  # what is kept of it is the last second; the test wants it whole
    stream._samples = 0
    for block in blocks(spoken[: 2 * RATE]):
        stream.feed(block)
        settle(stream)
    stream.feed(np.zeros(2 * RATE, np.int16))
    stream.end()
    while not stream.done:
        settle(stream)
    kinds = [message["type"] for message in messages if message["type"] != "partial"]
    assert kinds == ["final", "dropped"]


def test_an_utterance_without_anything_to_read_is_said(spoken):
    fake, messages = Fake(), []

    def nothing(clip, before):
        raise PaSEError("The utterance has nothing that the model reads.")

    fake.predict_in_turn = nothing
    play(LiveStream(fake, messages.append), spoken)
    assert {message["type"] for message in messages} == {"nothing"}
    assert "nothing that the model reads" in messages[-1]["detail"]


@pytest.mark.parametrize("options", [{"every": -1}, {"buffer": 0.1}])
def test_limits_that_make_no_sense_are_refused(options):
    with pytest.raises(PaSEError, match="A stream needs partial results"):
        LiveLimits(**options)


# the room: ----------------------------------------------------------------------------------------


@pytest.fixture
def room():
    room = LiveRoom(Fake(), 2, LiveLimits(every=0.5))
    yield room
    room.close()


def test_a_room_takes_so_many_streams_and_loses_none(room, spoken):
    messages, over = ([], []), (threading.Event(), threading.Event())
    streams = [room.enter(messages[i].append, over[i].set) for i in range(2)]
    with pytest.raises(RoomFull):
        room.enter(print, print)
    for block in blocks(spoken):
        for stream in streams:
            stream.feed(block)
    for stream, event in zip(streams, over, strict=True):
        stream.end()
        assert event.wait(20)
    assert [[m["type"] for m in some].count("final") for some in messages] == [2, 2]
    assert len(room) == 0
    assert room.enter(print, over[0].set)


def test_a_stream_that_fails_leaves_the_others_alone(room, spoken, caplog):
    messages, over = [], (threading.Event(), threading.Event())
    bad = room.enter(lambda message: 1 / 0, over[0].set)
    good = room.enter(messages.append, over[1].set)
    for block in blocks(spoken):
        bad.feed(block)
        good.feed(block)
    assert over[0].wait(20)
    good.end()
    assert over[1].wait(20)
    assert [message["type"] for message in messages].count("final") == 2
    assert "ZeroDivisionError" in caplog.text


# the socket: --------------------------------------------------------------------------------------


@pytest.fixture
def client(room):
    app = FastAPI()
    add_live(app, room, Fake())
    app.add_middleware(HostCheck, allowed_hosts=["localhost"], www_redirect=False)
    with TestClient(app, "http://localhost") as client:
        yield client


def rest(socket):
    """The messages until the stream is closed, and the code."""
    messages = []
    while True:
        try:
            messages.append(socket.receive_json())
        except WebSocketDisconnect as closed:
            return messages, closed.code


def test_a_file_that_is_streamed_in_real_time(client, spoken):
    with client.websocket_connect(LIVE) as socket:
        first = socket.receive_json()
        assert (first["type"], first["rate"], first["range"]) == ("ready", RATE, [-3, 3])
        sent, began = spoken[: 3 * RATE], time.monotonic()
        for number, block in enumerate(blocks(sent)):
            socket.send_bytes(block.tobytes())
            time.sleep(max(0.0, began + (number + 1) / 10 - time.monotonic()))
        partial = socket.receive_json()
        assert partial["type"] == "partial"
        socket.send_json({"type": "end"})
        messages, code = rest(socket)
    kinds = [message["type"] for message in messages]
    assert kinds[-1] == "end"
    assert kinds.count("final") == 1
    assert code == 1000


def test_a_stream_too_many_is_refused(client, room):
    room.most = 0
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(LIVE):
        pass
    assert refused.value.status_code == 503
    assert refused.value.headers["retry-after"] == "5"
    # a page in a browser cannot read a status
    with client.websocket_connect(LIVE, headers={"Origin": "http://localhost"}) as socket:
        (message,), code = rest(socket)
    assert code == 1013
    assert "as many as may be" in message["detail"]


@pytest.mark.parametrize(
    ("send", "sentence"),
    [
        (lambda socket: socket.send_bytes(b"123"), "which is odd"),
        (lambda socket: socket.send_bytes(b"RIFF1234"), "without a header"),
        (lambda socket: socket.send_bytes(b"\0\0\0 ftypisom"), "a file of MP4"),
        (lambda socket: socket.send_text("stop"), '"end"'),
        (lambda socket: socket.send_json([1]), '"end"'),
        (lambda socket: time.sleep(0.2), "No sound came"),
    ],
    ids=["odd", "file", "another file", "text", "json", "idle"],
)
def test_bad_input_is_a_sentence_and_a_clean_close(client, room, monkeypatch, send, sentence):
    monkeypatch.setattr(live_socket, "IDLE", 0.1 if sentence == "No sound came" else 60.0)
    with client.websocket_connect(LIVE) as socket:
        socket.receive_json()
        send(socket)
        (message,), code = rest(socket)
    assert message["type"] == "error"
    assert sentence in message["detail"]
    assert code == 1007
    assert len(room) == 0


def test_a_page_of_another_server_may_not_listen(client):
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:99"}):
        with client.websocket_connect(LIVE, headers=headers) as socket:
            (message,), code = rest(socket)
        assert code == 1008
        assert "another server" in message["detail"]
    with pytest.raises(WebSocketDenialResponse), client.websocket_connect(LIVE, headers={"Host": "evil.example"}):
        pass


# the command: -------------------------------------------------------------------------------------


@pytest.fixture
def piped(monkeypatch, spoken):
    monkeypatch.setattr(listening, "ClipPredictor", lambda run: Fake())

    def pipe(content):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))

    pipe(spoken.tobytes())
    return pipe


def test_a_pipe_is_listened_to(piped, capsys, tmp_path):
    assert main(["listen", "run", "--input", "-", "--out", str(tmp_path / "said.jsonl")]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("0:01.0 to 0:02.")
    assert "+1.00 (confidence 80%; text +0.50 audio +0.50)" in first
    assert second.endswith(" seconds")
    lines = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines].count("final") == 2


def test_lines_of_json_can_be_read_by_programs(piped, capsys):
    assert main(["listen", "run", "--input", "-", "--json", "--every", "0"]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["score"] for line in printed.out.splitlines()] == [1.0, 1.0]
    assert "2 utterances" in printed.err


def test_what_cannot_be_listened_to_is_a_sentence(piped, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for content, arguments, sentence in (
        (b"", ["--input", "-"], "No sound came by standard input"),
        (b"RIFF" * 800, ["--input", "-"], "without a header"),
        (b"ID3\x04" * 800, ["--input", "-"], "a file of MP3"),
        (b"", ["--input", "talk.wav"], "--input takes -"),
        (b"", [], "needs the package sounddevice"),
    ):
        piped(content)
        assert main(["listen", "run", *arguments]) == 2
        assert sentence in capsys.readouterr().err


def test_a_mistake_loses_no_older_file(piped, tmp_path):
    out = tmp_path / "said.jsonl"
    out.write_text("of yesterday")
    piped(b"")
    assert main(["listen", "run", "--input", "-", "--out", str(out)]) == 2
    assert out.read_text() == "of yesterday"

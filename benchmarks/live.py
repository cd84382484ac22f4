"""Live streams in real time, alone and beside clips: how long after the end of speech the result comes.

    python -m benchmarks.live [RUN] [--streams 1 2 4] [--seconds 60]

RUN is a run folder whose model reads clips (runs/tryout by default, made by `make media`). A server is started, and
every number of streams is measured alone and beside clients that post clips one after the other. A stream is synthetic
speech with a pause after each sentence, sent in blocks of a tenth of a second as it would be spoken. Printed are, over
all streams, p50 and p95 of the time from the end of speech to the final result, and of partial results from the last
sound in them to their coming; how many utterances came of how many there are, how much sound was dropped, and the
statuses of the clips. At the end more streams are opened than may be, which must be refused with 503.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from benchmarks.extract import example
from pase_msa.media.decode import RATE
from pase_msa.media.example_clip import speak
from pase_msa.media.speech import find_speech

PORT = 8767
BLOCK = RATE // 10
PAD = 0.1  # seconds after the end of speech that belong to an utterance
SENTENCES = (
    "I watched this film with my family last weekend.",
    "It surprised me, to be honest.",
    "The story is slow at first, but the actors are wonderful and the ending is really great.",
    "The music was far too loud.",
    "I would not see it a second time, and I was quite bored after an hour.",
    "Still, go and see it.",
)


@dataclass
class Outcome:
    """What came of some streams: latencies in seconds, and counts."""

    final: list[float] = field(default_factory=list)
    partial: list[float] = field(default_factory=list)
    dropped: float = 0.0
    ended: int = 0


def speech(seconds: float, seed: int) -> np.ndarray:
    """Sentences with pauses of about a second, int16 at 16 kHz, with the noise of a microphone."""
    rng = np.random.default_rng(seed)
    parts, length = [np.zeros(RATE)], RATE
    while length < seconds * RATE:
        sound, rate = speak(SENTENCES[rng.integers(len(SENTENCES))], speed=int(rng.integers(150, 200)))
        times = np.arange(round(len(sound) / rate * RATE)) / RATE
        parts += [np.interp(times, np.arange(len(sound)) / rate, sound) / 2, np.zeros(rng.integers(RATE, 2 * RATE))]
        length += len(parts[-1]) + len(parts[-2])
    whole = np.concatenate(parts)
    return (whole + rng.normal(0, 5, len(whole))).astype(np.int16)


def stream(sound: np.ndarray, outcome: Outcome, lock: threading.Lock) -> None:
    """Send a sound in real time, and take the time of every result."""
    sent: list[float] = []
    with connect(f"ws://127.0.0.1:{PORT}/live", compression=None) as socket:
        assert json.loads(socket.recv())["type"] == "ready"

        def receive() -> None:
            for message in map(json.loads, socket):
                now = time.perf_counter()
                with lock:
                    if message["type"] in ("final", "partial"):
                        pad = PAD if message["type"] == "final" else 0.0
                        block = min(int((message["end"] - pad) * RATE // BLOCK), len(sent) - 1)
                        getattr(outcome, message["type"]).append(now - sent[block])
                    elif message["type"] == "dropped":
                        outcome.dropped += message["end"] - message["start"]
                    outcome.ended += message["type"] == "end"

        receiver = threading.Thread(target=receive)
        receiver.start()
        began = time.perf_counter()
        for number, start in enumerate(range(0, len(sound), BLOCK)):
            time.sleep(max(0.0, began + (number + 1) * BLOCK / RATE - time.perf_counter()))
            sent.append(time.perf_counter())
            socket.send(sound[start : start + BLOCK].tobytes())
        socket.send(json.dumps({"type": "end"}))
        receiver.join()


def clips(content: bytes, over: threading.Event, statuses: Counter[int], spent: list[float]) -> None:
    """Post a clip again and again."""
    with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=600) as http:
        while not over.is_set():
            began = time.perf_counter()
            status = http.post("/predict/clip", files={"file": ("clip", content)}).status_code
            statuses[status] += 1
            if status == 200:
                spent.append(time.perf_counter() - began)
            else:
                time.sleep(0.5)


def measure(count: int, clients: int, seconds: float, content: bytes) -> None:
    """So many streams beside so many clients with clips."""
    sounds = [speech(seconds, seed) for seed in range(count)]
    expected = sum(len(find_speech(s.astype(np.float32) / 32768, threshold=0.5, pause=0.6)) for s in sounds)
    outcome, lock, over = Outcome(), threading.Lock(), threading.Event()
    statuses: Counter[int] = Counter()
    spent: list[float] = []
    posting = [threading.Thread(target=clips, args=(content, over, statuses, spent)) for _ in range(clients)]
    streaming = [threading.Thread(target=stream, args=(sound, outcome, lock)) for sound in sounds]
    for thread in [*posting, *streaming]:
        thread.start()
    for thread in streaming:
        thread.join()
    over.set()
    for thread in posting:
        thread.join()
    print(f"{count} streams, {clients} clients with clips:")
    for name in ("final", "partial"):
        values = getattr(outcome, name)
        p50, p95 = np.percentile(values, [50, 95]) if values else (np.nan, np.nan)
        print(f"  {name:8} {len(values):4d} results, p50 {p50:.2f} s, p95 {p95:.2f} s")
    lost = (
        f"{len(outcome.final)} of {expected} utterances, {outcome.dropped:.1f} s dropped, {outcome.ended} streams ended"
    )
    print(f"  {lost}")
    if clients:
        answers = ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
        print(f"  clips: {answers}; p50 {np.median(spent) if spent else np.nan:.1f} s", flush=True)


def refusals(most: int) -> None:
    """Open two streams more than may be."""
    codes: Counter[int] = Counter()
    with ExitStack() as stack:
        for _ in range(most + 2):
            try:
                stack.enter_context(connect(f"ws://127.0.0.1:{PORT}/live", compression=None))
                codes[101] += 1
            except InvalidStatus as refused:
                codes[refused.response.status_code] += 1
    print(
        f"{most + 2} streams at once, {most} may be: {', '.join(f'{n} x {code}' for code, n in sorted(codes.items()))}"
    )


def main() -> None:
    """Measure every number of streams, alone and beside clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/tryout"))
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--clips", type=int, nargs="+", default=[0, 1], help="clients that post clips")
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    most = max(options.streams)
    command = [sys.executable, "-m", "pase_msa", "serve", str(options.run), "--port", str(PORT), "--streams", str(most)]
    with tempfile.TemporaryDirectory() as name:
        content = example(Path(name) / "clip.mp4").read_bytes()
        server = subprocess.Popen(command)
        try:
            _wait_for(server)
            stream(speech(5, 0), Outcome(), threading.Lock())  # the networks warm up
            for clients in options.clips:
                for count in options.streams:
                    measure(count, clients, options.seconds, content)
            refusals(most)
        finally:
            server.terminate()
            server.wait()


def _wait_for(server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{PORT}/health")
            return
        except httpx.TransportError:
            time.sleep(0.5)
    raise SystemExit("the server has ended")


if __name__ == "__main__":
    main()

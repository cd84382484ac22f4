"""The server, over its own interface."""

import asyncio
import os
import pickle
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.media.config import RecordingOptions
from pase_msa.models.base import Model
from pase_msa.serve.api import build_app
from pase_msa.serve.batching import Batcher, QueueFull
from pase_msa.serve.hosts import HostCheck, allowed_hosts
from pase_msa.serve.limits import Limits
from pase_msa.serve.predictor import Predictor
from pase_msa.serve.results import SCHEMA_VERSION
from pase_msa.serve.temporary import temporary_files

LIMITS = Limits(max_seconds=10, max_megabytes=2, clips=1, waiting=0, batch=4, wait=0.01, queue=8, max_steps=5)
SIZES = {"text": 384, "audio": 114}


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """Where the server stores uploads."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(scope="module")
def client(run, temporary):
    with TestClient(build_app(run, LIMITS), "http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(autouse=True)
def _nothing_is_left(temporary):
    yield
    assert list(temporary.iterdir()) == []


def rows(count=2, *, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {"id": f"u{i}", "features": {name: rng.normal(size=(3, dim)).tolist() for name, dim in SIZES.items()}}
        for i in range(count)
    ]


def directly(run, given):
    features = [{name: np.array(steps, np.float32) for name, steps in row["features"].items()} for row in given]
    table = [Utterance(str(i), "", "", features=item) for i, item in enumerate(features)]
    return [prediction.score for prediction in Predictor(run).predict(FeatureTable.build(table, Schema(SIZES, {})))]


def refusal(response, status):
    """The sentence of a refusal."""
    assert response.status_code == status, response.text
    sentence = response.json()["detail"]
    assert isinstance(sentence, str)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def test_a_clip_is_predicted(client, clip_predictor, video):
    with video.open("rb") as stream:
        response = client.post("/predict/clip", files={"file": ("any name", stream)}, data={"explain": "false"})
    assert response.status_code == 200
    expected = clip_predictor.predict(video, words=False)
    result = response.json()
    assert result["score"] == pytest.approx(expected.overall.score, abs=1e-4)
    assert result["schema_version"] == SCHEMA_VERSION
    assert {word["influence"] for word in result["utterances"][0]["words"]} == {None}  # not computed, which is not 0


def test_a_response_has_the_fields_of_the_result(client, clip_predictor, video):
    with video.open("rb") as stream:
        result = client.post("/predict/clip", files={"file": ("any name", stream)}).json()
    expected = clip_predictor.predict(video, name="clip").to_dict()

    def fields(value):
        if isinstance(value, dict):
            return {key: fields(item) for key, item in value.items()}
        return [fields(item) for item in value] if isinstance(value, list) else type(value)

    assert fields(result) == fields(expected)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no media at all",
        pickle.dumps({"a": 1}),
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"RIFF\xff\xff\xff\x7fWAVE",
    ],
    ids=["nothing", "text", "pickle", "playlist", "cut off"],
)
def test_bad_media_are_refused_with_a_sentence(client, temporary, content):
    response = client.post("/predict/clip", files={"file": ("../../../etc/passwd.txt", content)})
    assert str(temporary) not in refusal(response, 422)


def test_a_clip_that_is_too_long_is_refused(client, tmp_path):
    from pase_msa.media.example_clip import write_clip

    path = write_clip(tmp_path / "long.wav", sound=np.zeros(11 * 8000, np.int16), rate=8000)
    response = client.post("/predict/clip", files={"file": ("x", path.read_bytes())})
    assert "10 s at most" in refusal(response, 422)


def test_a_request_that_is_too_large_is_refused_whatever_length_it_states(client):
    assert "2 MB" in refusal(client.post("/predict/clip", files={"file": ("x", b"0" * 2_100_000)}), 413)
    pieces = (b"0" * 100_000 for _ in range(30))  # sent without a length
    response = client.post("/predict/features", content=pieces, headers={"content-type": "application/json"})
    assert "2 MB" in refusal(response, 413)


def test_features_are_predicted_as_by_the_predictor(run, client):
    given = rows(3)
    predictions = client.post("/predict/features", json={"utterances": given}).json()["predictions"]
    assert [item["id"] for item in predictions] == ["u0", "u1", "u2"]
    assert [item["score"] for item in predictions] == pytest.approx(directly(run, given), abs=1e-5)


def test_requests_at_the_same_time_do_not_mix(run, client):
    given = [rows(1, seed=seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        responses = pool.map(lambda some: client.post("/predict/features", json={"utterances": some}), given)
        scores = [response.json()["predictions"][0]["score"] for response in responses]
    assert scores == pytest.approx([directly(run, some)[0] for some in given], abs=1e-5)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"features": {"text": [[0.0] * 5]}}, "5 numbers, and the model was trained on 384"),
        ({"features": {"audio": [[]]}}, "empty step"),
        ({"features": {"text": [[0.0] * 384] * 6}}, "6 steps of text, and this server takes 5"),
        ({"features": {"smell": [[1.0]]}}, "not 'smell'"),
        ({"features": {}}, "has no features of a modality that the model reads"),
        ({"features": {"text": [["a"] * 384]}}, "valid number"),
        ({"path": "/etc/passwd"}, "not permitted"),
    ],
)
def test_features_that_do_not_fit_are_refused(client, row, sentence):
    assert sentence in refusal(client.post("/predict/features", json={"utterances": [row]}), 422)


def test_a_number_that_is_unknown_is_null(client):
    row = rows(1)[0]
    row["features"]["audio"][0][0] = None
    (prediction,) = client.post("/predict/features", json={"utterances": [row]}).json()["predictions"]
    assert np.isfinite(prediction["score"])


def test_more_utterances_than_may_wait_are_refused(client):
    response = client.post("/predict/features", json={"utterances": rows(9)})
    refusal(response, 503)
    assert response.headers["retry-after"] == "1"


def test_more_clips_than_may_wait_are_refused(client, video, monkeypatch):
    begun, go = threading.Event(), threading.Event()
    service = client.app.state.service

    def slow(*given):
        begun.set()
        go.wait(20)
        raise PaSEError("That was a slow one.")

    monkeypatch.setattr(service, "_predict_file", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/predict/clip", files={"file": ("x", b"x")})
        assert begun.wait(20)
        refusal(client.post("/predict/clip", files={"file": ("x", b"x")}), 503)
        assert "pase_clips 1.0" in client.get("/metrics").text
        go.set()
        assert "slow" in refusal(first.result(), 422)


def test_speakers_and_language_are_options_of_a_clip(client, monkeypatch):
    asked = []
    service = client.app.state.service
    monkeypatch.setattr(service, "_predict_file", lambda path, text, explain, options: asked.append(options) or {})
    sent = {"speakers": "channels", "language": "en"}
    client.post("/predict/clip", files={"file": ("x", b"x")}, data=sent)
    client.post("/predict/clip", files={"file": ("x", b"x")})
    assert asked == [RecordingOptions("channels", language="en"), RecordingOptions()]
    sentence = refusal(client.post("/predict/clip", files={"file": ("x", b"x")}, data={"speakers": "many"}), 422)
    assert "auto, channels or a number" in sentence


def test_a_fault_of_the_server_shows_nothing_of_the_inside(client, monkeypatch):
    monkeypatch.setattr(client.app.state.service, "_predict_file", lambda *given: 1 / 0)
    assert "fault in the server" in refusal(client.post("/predict/clip", files={"file": ("x", b"x")}), 500)


def test_health_schema_and_metrics(client):
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["modalities"] == ["text", "audio"]
    paths = client.get("/openapi.json").json()["paths"]
    for path, model in {"/predict/clip": "ClipResponse", "/predict/features": "FeatureResponse"}.items():
        responses = paths[path]["post"]["responses"]
        assert responses["200"]["content"]["application/json"]["schema"]["$ref"].endswith(f"/{model}")
        assert {"413", "422", "503"} <= set(responses)
    client.get("/no/such/page")
    metrics = client.get("/metrics").text
    assert 'pase_requests_total{path="/health",status="200"}' in metrics
    assert "/no/such/page" not in metrics


def test_a_model_without_a_record_predicts_features_only(run, tmp_path):
    model = Model.from_pretrained(run / "model")
    model.extraction = None
    model.save_pretrained(tmp_path)
    with TestClient(build_app(tmp_path), "http://localhost") as client:
        assert "without a record of their extraction" in refusal(
            client.post("/predict/clip", files={"file": ("x", b"x")}), 422
        )
        assert client.post("/predict/features", json={"utterances": rows(1)}).status_code == 200


def test_limits_that_make_no_sense_are_refused():
    with pytest.raises(PaSEError, match="queue no smaller than batch"):
        Limits(batch=8, queue=4)


def test_items_that_arrive_together_are_one_batch():
    sizes = []

    async def go():
        batcher = Batcher(lambda items: [2 * item for item in items], 4, 0.2, 16, sizes.append)
        batcher.start()
        try:
            return await asyncio.gather(*(batcher.submit([i, 10 * i]) for i in range(2)))
        finally:
            await batcher.stop()

    assert asyncio.run(go()) == [[0, 0], [2, 20]]
    assert sizes == [4]


def test_a_batch_that_fails_leaves_the_others_alone():
    def work(items):
        return [1 / item for item in items]

    async def go():
        batcher = Batcher(work, 1, 0.0, 4)
        batcher.start()
        try:
            results = await asyncio.gather(*(batcher.submit([i]) for i in (1, 0, 2)), return_exceptions=True)
            with pytest.raises(QueueFull):
                await batcher.submit([1] * 5)
            return results
        finally:
            await batcher.stop()

    first, second, third = asyncio.run(go())
    assert (first, third) == ([1.0], [0.5])
    assert isinstance(second, ZeroDivisionError)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200),
        ("evil.example.com", 400),
        ("localhost.evil.com:8000", 400),
        ("127.0.0.1.evil.com", 400),
        ("", 400),
        ("[::1", 400),
    ],
)
def test_a_request_under_a_foreign_name_is_refused(client, host, status):
    response = client.get("/health", headers={"Host": host})
    assert response.status_code == status
    if status == 400:
        assert "--allowed-host" in response.json()["detail"]


def test_a_deployment_may_have_names():
    hosts = allowed_hosts("0.0.0.0", ["Pase.example.org", "*.example.net"])
    client = TestClient(HostCheck(PlainTextResponse("here"), allowed_hosts=hosts))
    for host, status in (("pase.example.org", 200), ("a.example.net:80", 200), ("example.com", 400)):
        assert client.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize("name", ["https://a.org", "a.org:80", "*a.org", "a.*", "", "*."])
def test_what_is_no_name_of_a_host_is_refused(name):
    with pytest.raises(PaSEError, match="--allowed-host takes a name"):
        allowed_hosts("127.0.0.1", [name])


@pytest.mark.parametrize(
    "content",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"%PDF-1.7",
        b"PK\x03\x04",
        b"#EXTM3U\n/etc/passwd\n",
        b"\x89PNG\r\n\x1a\n",
        b"",
    ],
)
def test_an_upload_that_is_no_media_is_a_sentence(client, content):
    sentence = refusal(client.post("/predict/clip", files={"file": ("clip.mp4", content)}), 422)
    assert sentence.startswith("The clip")


def test_temporary_files_of_a_server_are_removed_at_its_end():
    with temporary_files() as folder, pytest.raises(SystemExit):  # noqa: PT012
        with tempfile.NamedTemporaryFile(delete=False) as upload:
            assert upload.name.startswith(folder)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    assert not os.path.exists(folder)

"""Language models over HTTP and on this machine: retries, refusals, the cache, the cost."""

import base64
import dataclasses
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
import torch

from pase_msa.calibration import confidence
from pase_msa.cli.main import main
from pase_msa.data.table import FeatureTable, Schema, Utterance
from pase_msa.errors import PaSEError
from pase_msa.language_models import endpoint, prediction
from pase_msa.language_models.choices import answers_of
from pase_msa.language_models.local import Local, _gguf_file
from pase_msa.language_models.prediction import predict_split, summary
from pase_msa.language_models.prompts import messages
from pase_msa.metrics import regression_metrics
from pase_msa.task import Task

TASK = Task.regression(("text",), -3, 3, label="sentiment")
LABELS = {"train": [-3.0, 3.0, 1.0, 1.0], "test": [2.0, -1.0, 0.5, -2.0, 1.0]}


def table(path=None, kind="real"):
    rows = []
    for split, labels in LABELS.items():
        for i, label in enumerate(labels):
            value = label if kind == "real" else ("glad" if label > 0 else "sad")
            rows.append(Utterance(f"{split}{i}", f"{split}{i}", split, {"sentiment": value}, text=f"{split} text {i}"))
    return FeatureTable.build(rows, Schema.of(rows), path=path, meta={"label_range": [-3, 3]} if kind == "real" else {})


class Server:
    """Answers as `answer(body)` says: a text, a status with headers, or a whole body."""

    def __init__(self, answer):
        self.answer, self.asked, self.keys, self.url = answer, [], [], ""
        self.lock, self.now, self.most = threading.Lock(), 0, 0


@contextmanager
def serving(answer):
    server = Server(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.asked.append(body)
                server.keys.append(self.headers.get("Authorization"))
                server.now += 1
                server.most = max(server.most, server.now)
            reply = server.answer(body)
            with server.lock:
                server.now -= 1
            status, headers, content = reply if isinstance(reply, tuple) else (200, {}, reply)
            if isinstance(content, str):
                message = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
                content = message | {"usage": {"prompt_tokens": 100, "completion_tokens": 2}}
            sent = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def prompt(body):
    return str(body["messages"][-1]["content"])


def truth(body):
    """The label of the utterance that is asked about."""
    return str(LABELS["test"][int(prompt(body)[-1])])


def test_answers_become_metrics_of_the_split():
    with serving(lambda body: "1") as server:
        frame = predict_split(table(), "test", "m", base_url=server.url)
    assert frame["id"].tolist() == [f"test{i}" for i in range(5)]
    assert frame["label"].tolist() == LABELS["test"]
    result = summary(frame, TASK, price_in=2.0, price_out=10.0)
    assert result["metrics"] == pytest.approx(regression_metrics([1.0] * 5, LABELS["test"], TASK))
    assert (result["tokens_in"], result["tokens_out"], result["new_requests"]) == (500, 10, 5)
    assert result["cost"] == pytest.approx((500 * 2 + 10 * 10) / 1e6)


def test_the_request_is_a_chat_completion_at_temperature_zero():
    with serving(truth) as server:
        predict_split(
            table(), "test", "some-model", base_url=f"{server.url}/", key="secret", options={"max_tokens": None, "n": 1}
        )
    body = server.asked[0]
    assert (body["model"], body["temperature"], body["n"]) == ("some-model", 0, 1)
    assert "max_tokens" not in body
    assert set(server.keys) == {"Bearer secret"}
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_a_cached_reply_is_not_requested_again():
    with serving(truth) as server:
        first = predict_split(table(), "test", "m", base_url=server.url, limit=3)
        second = predict_split(table(), "test", "m", base_url=server.url)
        assert (len(first), len(server.asked)) == (3, 5)
        assert second["cached"].sum() == 3
        assert summary(second, TASK)["metrics"]["mae"] == 0
        predict_split(table(), "test", "m", base_url=server.url, max_tokens=65)
        assert len(server.asked) == 10, "another request has other answers"


def test_an_interrupted_job_resumes():
    broken = threading.Event()

    def answer(body):
        return (
            (401, {}, {"error": {"message": "no credit"}}) if broken.is_set() and "3" in prompt(body) else truth(body)
        )

    broken.set()
    with serving(answer) as server:
        with pytest.raises(PaSEError, match=r"401 Unauthorized: no credit; .* answers so far are kept"):
            predict_split(table(), "test", "m", base_url=server.url, concurrency=1)
        before = len(server.asked)
        broken.clear()
        frame = predict_split(table(), "test", "m", base_url=server.url, concurrency=1)
        cached = before - 1
        assert frame["cached"].sum() == cached >= 3
        assert len(server.asked) == before + 5 - cached


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_request_to_a_busy_server_is_repeated(status):
    seen = set()

    def answer(body):
        if prompt(body) in seen:
            return truth(body)
        seen.add(prompt(body))
        return (status, {"Retry-After": "0"}, b"busy")

    with serving(answer) as server:
        frame = predict_split(table(), "test", "m", base_url=server.url, pause=0)
    assert len(server.asked) == 10
    assert set(frame["status"]) == {"answered"}


def test_a_server_that_stays_busy_is_an_error_sentence():
    with (
        serving(lambda body: (429, {}, {"error": {"message": "slow down"}})) as server,
        pytest.raises(PaSEError, match="429 Too Many Requests: slow down"),
    ):
        predict_split(table(), "test", "m", base_url=server.url, retries=2, pause=0, concurrency=1, limit=1)
    assert len(server.asked) == 3


def test_refusals_and_unreadable_answers_are_counted_and_scored_as_the_training_mean():
    marked = {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]}
    answers = {
        "0": "2",
        "1": "I'm sorry, I can't rate this.",
        "2": "%%% ###",
        "3": "-7",
        "4": marked,
    }
    with serving(lambda body: answers[prompt(body)[-1]]) as server:
        frame = predict_split(table(), "test", "m", base_url=server.url)
    assert frame["status"].tolist() == ["answered", "refused", "unreadable", "out_of_range", "refused"]
    assert frame["prediction"].tolist() == [2.0, 0.5, 0.5, 0.5, 0.5]
    result = summary(frame, TASK, price_in=1.0, price_out=1.0)
    assert result["counts"] == {"answered": 1, "refused": 2, "unreadable": 1, "out_of_range": 1, "empty": 0}
    assert result["answered_metrics"]["mae"] == 0
    assert result["metrics"]["mae"] == pytest.approx(np.abs(np.array([0, 1.5, 0, 2.5, -0.5])).mean())
    assert result["cost"] is None, "one reply came without a count of tokens"


def test_a_content_filter_is_a_refusal():
    with serving(lambda body: (400, {}, {"error": {"code": "content_filter", "message": "filtered"}})) as server:
        frame = predict_split(table(), "test", "m", base_url=server.url)
    assert set(frame["status"]) == {"refused"}
    assert summary(frame, TASK)["answered_metrics"] is None


@pytest.mark.parametrize("content", [b"<html>", [1], {"choices": []}, {"choices": [{"message": "hi"}]}])
def test_a_response_that_is_no_chat_completion_is_an_error_sentence(content):
    with (
        serving(lambda body: (200, {}, content)) as server,
        pytest.raises(PaSEError, match="no chat completion; check --base-url"),
    ):
        predict_split(table(), "test", "m", base_url=server.url)


def test_a_missing_server_is_an_error_sentence():
    with serving(truth) as server:
        pass
    with pytest.raises(PaSEError, match="did not answer"):
        predict_split(table(), "test", "m", base_url=server.url, retries=1, pause=0)


def test_examples_come_from_the_training_split_by_seed():
    with serving(truth) as server:
        for seed in (0, 0, 1):
            predict_split(table(), "test", "m", base_url=server.url, shots=2, seed=seed, limit=1, max_tokens=60 + seed)
    conversations = [body["messages"][1:-1] for body in server.asked]
    assert len(conversations) == 2, "the same seed shows the same"
    assert conversations[0] != conversations[1]
    for conversation in conversations:
        for user, assistant in zip(conversation[::2], conversation[1::2], strict=True):
            assert user["content"].startswith("train text")
            assert float(assistant["content"]) == LABELS["train"][int(user["content"][-1])]


def test_no_more_requests_are_under_way_than_allowed():
    together = threading.Barrier(2, timeout=5)

    def answer(body):
        if "0" in prompt(body) or "1" in prompt(body):
            together.wait()  # these two can be answered only side by side
        return truth(body)

    with serving(answer) as server:
        predict_split(table(), "test", "m", base_url=server.url, concurrency=2)
    assert server.most == 2


def test_the_prompt_names_the_classes():
    data = table(kind="class")
    task = Task.classification(("text",), ("glad", "sad"), label="sentiment")
    with serving(lambda body: "Answer: **sad**" if "1" in prompt(body) else "?") as server:
        frame = predict_split(data, "test", "m", base_url=server.url)
    assert frame["value"].fillna("").tolist() == ["", "sad", "", "", ""]
    assert frame["prediction"].tolist() == ["glad", "sad", "glad", "glad", "glad"], "most training utterances are glad"
    assert summary(frame, task)["metrics"]["accuracy"] == pytest.approx(4 / 5)


def test_media_of_an_utterance_are_parts_of_the_message(tmp_path):
    (tmp_path / "test0.jpg").write_bytes(b"picture")
    (tmp_path / "test0.wav").write_bytes(b"sound")
    (tmp_path / "test1.mp4").write_bytes(b"film")
    (tmp_path / "notes.txt").write_text("no medium")
    with serving(lambda body: "0") as server:
        frame = predict_split(table(), "test", "m", base_url=server.url, media=tmp_path)
    parts = [body["messages"][-1]["content"] for body in server.asked]
    rest = {part[0]["text"][-1]: part[1:] for part in parts if isinstance(part, list)}
    assert set(rest) == {"0", "1"}
    assert rest["0"][0]["image_url"]["url"] == f"data:image/jpeg;base64,{base64.b64encode(b'picture').decode()}"
    assert rest["0"][1]["input_audio"] == {"data": base64.b64encode(b"sound").decode(), "format": "wav"}
    assert rest["1"][0]["video_url"]["url"].startswith("data:video/mp4;base64,")
    assert summary(frame, TASK)["media"] == 2


def test_the_command_prints_the_summary_and_writes_the_answers(tmp_path, capsys, monkeypatch):
    table(tmp_path / "data")
    monkeypatch.setenv("OTHER_KEY", "k")
    with serving(truth) as server:
        words = ["ask", "--data", str(tmp_path / "data"), "--model", "m", "--base-url", server.url]
        words += ["--key-variable", "OTHER_KEY", "--out", str(tmp_path / "answers.csv")]
        assert main([*words, "--options", '{"seed": 1}', "--price-in", "1", "--price-out", "1"]) == 0
        assert "5 answered" in (printed := capsys.readouterr().out)
        assert "tokens: 500 read, 10 written, cost 0.0005" in printed
        assert main([*words, "--options", '{"seed": 1}', "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["new_requests"] == 0
    assert (set(server.keys), server.asked[0]["seed"]) == ({"Bearer k"}, 1)
    assert pd.read_csv(tmp_path / "answers.csv")["value"].tolist() == LABELS["test"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "needs data and a language model"),
        (["--base-url", "ftp://x"], "begins with http"),
        (["--base-url", "http://x", "--split", "dev"], "no utterance with a label 'sentiment' in the split 'dev'"),
        (["--base-url", "http://x", "--shots", "9"], "9 examples were asked for; the training split has 4"),
        (["--base-url", "http://x", "--limit", "0"], "The number of limit cannot be 0"),
        (["--base-url", "http://x", "--media", "nowhere"], "was to be a folder of images"),
        (["--base-url", "local"], "No language model could be loaded as 'm'"),
    ],
)
def test_bad_input_is_one_sentence(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table("data")
    assert main(["ask", *(["--data", "data", "--model", "m", *words] if words else [])]) == 2
    assert sentence in capsys.readouterr().err


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A decoder of random weights that knows a few words, made from a configuration."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = ["<unk>", "<end>", "test", "train", "text", "0", "1", "2", "Answer", ":"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path_factory.mktemp("tiny")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(words), n_positions=256, n_embd=8, n_layer=1, n_head=1, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_local_model_predicts_like_a_server(tiny_model):
    first = predict_split(table(), "test", str(tiny_model), base_url="local", max_tokens=4)
    second = predict_split(table(), "test", str(tiny_model), base_url="local", max_tokens=4)
    assert first["answer"].tolist() == second["answer"].tolist()
    assert second["cached"].all()
    assert not first["cached"].any()
    assert (first["tokens_in"] > 10).all()
    assert first["tokens_out"].between(0, 4).all()


def test_a_chat_template_is_followed(tiny_model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "chat"
    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = "{% for message in messages %}test text {% endfor %}"
    tokenizer.save_pretrained(folder)
    frame = predict_split(table(), "test", str(folder), base_url="local", shots=1, max_tokens=2)
    assert set(frame["tokens_in"]) == {8}, "two words for each of the four turns"


def test_a_local_model_takes_no_media(tiny_model, tmp_path):
    (tmp_path / "test0.png").write_bytes(b"picture")
    with pytest.raises(PaSEError, match="takes text only"):
        predict_split(table(), "test", str(tiny_model), base_url="local", media=tmp_path)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """A Llama of two layers with random weights; its tokenizer divides numbers into a sign and a digit."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<unk>", "<end>", "\n", "-", "Utterance", "Answer", ":", "test", "train", "text", *"0123456789"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(" "), "removed"), pre_tokenizers.Split(Regex(r"\n|-|:|\d"), "isolated")]
    )
    folder = tmp_path_factory.mktemp("llama")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<end>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=512, bos_token_id=1, eos_token_id=1, initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_the_likelihood_of_an_answer_is_that_of_its_tokens_one_by_one(llama):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(llama), AutoModelForCausalLM.from_pretrained(llama).eval()
    conversation = messages(TASK, "test text 1", [("train text 0", "-3")])
    answers = answers_of(TASK)
    assert answers == ["-3", "-2", "-1", "0", "1", "2", "3"]
    found = Local(str(llama), {"max_tokens": 4}).log_likelihoods(conversation, answers)
    prompt = conversation[0]["content"] + "\nUtterance: train text 0\nAnswer: -3\nUtterance: test text 1\nAnswer:"
    start = tokenizer(prompt)["input_ids"]
    for answer, value in zip(answers, found, strict=True):
        ids = [*start, *tokenizer(f" {answer}\n", add_special_tokens=False)["input_ids"]]
        with torch.inference_mode():
            logs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = sum(float(logs[i - 1, ids[i]]) for i in range(len(start), len(ids)))
        assert len(ids) - len(start) == (3 if answer[0] == "-" else 2)
        assert value == pytest.approx(expected, abs=1e-3)


def test_what_conversations_begin_with_is_read_once_and_changes_nothing(llama, monkeypatch):
    examples, answers = [(f"train text {i}", "-3") for i in range(6)], answers_of(TASK)
    chat, lengths = Local(str(llama), {"max_tokens": 4}), []
    forward = chat.model.forward

    def counted(ids, **more):
        lengths.append(ids.shape[1])
        return forward(ids, **more)

    monkeypatch.setattr(chat.model, "forward", counted)
    texts = ["test text 1", "test 2", "train test text 1", "test text 1"]
    found = [chat.log_likelihoods(messages(TASK, text, examples), answers) for text in texts]
    for text, values in zip(texts, found, strict=True):
        fresh = Local(str(llama), {"max_tokens": 4})
        assert values == pytest.approx(fresh.log_likelihoods(messages(TASK, text, examples), answers), abs=1e-4)
    # the first is read whole; the second, and the third, which begins otherwise than both, find what is alike
    whole = lengths[0]
    assert [length for length in lengths[1:] if length > 0.7 * whole] == lengths[2:6:3]


def with_validation(path):
    rows = [table().utterance(row) for row in range(len(table()))]
    rows += [
        Utterance(f"valid{i}", f"valid{i}", "valid", {"sentiment": float(i % 7) - 3}, text=f"train test {i}")
        for i in range(9)
    ]
    FeatureTable.build(rows, Schema.of(rows), path=path, meta={"label_range": [-3, 3]})
    return path


def test_choices_are_calibrated_on_validation_and_repeat(llama, tmp_path, capsys):
    data = str(with_validation(tmp_path / "data"))
    words = ["ask", "--data", data, "--model-folder", str(llama), "--choices", "--shots", "1", "--json"]
    results = []
    for name in ("first.csv", "second.csv"):
        assert main([*words, "--out", str(tmp_path / name)]) == 0
        results.append(json.loads(capsys.readouterr().out))
    first, second = results
    assert (first["new_requests"], second["new_requests"]) == (5, 0)
    assert first["calibration"] == second["calibration"]
    assert first["calibration"]["count"] == 9
    assert first["counts"]["answered"] == 5
    assert first["seconds"] > 0
    frame = pd.read_csv(tmp_path / "first.csv")
    probabilities = frame[[f"probability/{name}" for name in answers_of(TASK)]].to_numpy()
    assert probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert frame["prediction"].to_numpy() == pytest.approx(probabilities @ np.arange(-3, 4), abs=1e-5)
    logits = torch.tensor(probabilities).log().float()
    sure = confidence(TASK, logits, first["calibration"]["temperature"]).numpy()
    assert frame["confidence"].to_numpy() == pytest.approx(sure, abs=1e-4)


def test_a_model_without_a_template_answers_with_its_first_line(llama):
    chat = Local(str(llama), {"max_tokens": 20})
    reply = chat.complete(messages(TASK, "test text 1"))
    assert "\n" not in reply.text
    assert reply == dataclasses.replace(chat.complete(messages(TASK, "test text 1")), seconds=reply.seconds)


@pytest.mark.parametrize(
    ("files", "wanted", "found"),
    [
        (["a.gguf"], None, "a.gguf"),
        (["a.gguf", "config.json"], None, None),
        (["a.gguf", "b.gguf"], "b.gguf", "b.gguf"),
        (["a.gguf", "b.gguf"], None, "holds a.gguf, b.gguf; name one with --gguf"),
        (["config.json"], "c.gguf", "holds no c.gguf; it has no GGUF file"),
    ],
)
def test_the_gguf_file_of_a_folder(files, wanted, found, tmp_path):
    for name in files:
        (tmp_path / name).touch()
    if found and not found.endswith(".gguf"):
        with pytest.raises(PaSEError, match=found):
            _gguf_file(str(tmp_path), wanted)
    else:
        assert _gguf_file(str(tmp_path), wanted) == found


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--model-folder", "x", "--model", "m"], "leave out --model and --base-url, or it"),
        (["--model", "m", "--base-url", "http://x", "--choices"], "Choices are graded by a local model"),
        (["--model", "m", "--base-url", "http://x", "--gguf", "a.gguf"], "is read from the folder of a local model"),
    ],
)
def test_options_of_local_models_that_clash(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table("data")
    assert main(["ask", "--data", "data", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_a_server_that_refuses_connections_is_told_of_at_once(caplog):
    with serving(truth) as server:
        pass
    began = time.monotonic()
    with caplog.at_level("WARNING", "pase_msa"), pytest.raises(PaSEError, match="did not answer"):
        predict_split(table(), "test", "m", base_url=server.url, retries=2, pause=0.01)
    assert time.monotonic() - began < 5
    assert "the server does not answer; trying again in" in caplog.text


def test_a_server_that_accepts_and_is_silent_is_told_of(caplog, monkeypatch):
    monkeypatch.setattr("pase_msa.language_models.prediction._SILENCE", 0.05)

    def slow(body):
        time.sleep(0.2)
        return truth(body)

    with serving(slow) as server, caplog.at_level("WARNING", "pase_msa"):
        predict_split(table(), "test", "m", base_url=server.url, max_tokens=61)
    assert f"no answer from {server.url} after 0 s; waiting" in caplog.text


def test_silence_is_told_of_within_five_seconds():
    assert prediction._SILENCE < 5
    assert endpoint._CONNECT < 5

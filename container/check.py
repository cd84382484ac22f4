"""Build the image and try it where a Docker daemon is at hand; otherwise only read the Dockerfile for mistakes.

python -m container.check [RUN]

RUN is a run folder (runs/tryout if left out), which the container sees read-only as /model.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGE = "pase-check"
PORT = 18000


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments; lines that go on are joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1].strip()) for line in joined.splitlines() if line]


def mistakes(text: str, ignore: str, root: Path = ROOT) -> list[str]:
    """What is wrong with a Dockerfile, in sentences.

    Args:
        text: of the Dockerfile.
        ignore: of `.dockerignore`.
        root: folder of the build.
    """
    steps = instructions(text)
    starts = [number for number, (word, _) in enumerate(steps) if word == "FROM"]
    final = steps[starts[-1] :] if starts else []
    return [*_images(steps), *_last_stage(final), *_copies(steps, ignore, root), *_shells(steps)]


def _images(steps: list[tuple[str, str]]) -> Iterator[str]:
    if not steps or steps[0][0] not in ("FROM", "ARG"):
        yield "The first instruction is FROM."
    stages: set[str] = set()
    for word, rest in steps:
        if word == "FROM":
            image, *more = rest.split()
            if image not in stages and (":" not in image or image.endswith(":latest")):
                yield f"The image {image} has no version."
            stages |= {name for before, name in itertools.pairwise(more) if before.upper() == "AS"}


def _last_stage(final: list[tuple[str, str]]) -> Iterator[str]:
    users = [rest for word, rest in final if word == "USER"]
    if not users or users[-1].split(":")[0] in ("root", "0"):
        yield "The container runs as root; name a USER."
    for wanted in ("HEALTHCHECK", "EXPOSE", "ENTRYPOINT"):
        if wanted not in [word for word, _ in final]:
            yield f"The last stage has no {wanted}."
    for word, rest in final:
        if word in ("ENTRYPOINT", "CMD"):
            try:
                json.loads(rest)
            except ValueError:
                yield f"{word} is no list in JSON, so a shell runs it and signals do not reach the program: {rest}"


def _copies(steps: list[tuple[str, str]], ignore: str, root: Path) -> Iterator[str]:
    for word, rest in steps:
        if word == "ADD":
            yield f"ADD does more than COPY; take COPY: {rest}"
        if word == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                if not (root / source).exists():
                    yield f"COPY {source}: there is no such file."
                elif ignored(source, ignore):
                    yield f"COPY {source}: .dockerignore leaves it out."


def ignored(path: str, ignore: str) -> bool:
    """Whether `.dockerignore` leaves a path out; the last line that fits decides."""
    left_out = False
    for line in ignore.splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#"):
            pattern = rule.removeprefix("!").rstrip("/")
            if fnmatch(path, pattern) or path.startswith(f"{pattern}/"):
                left_out = not rule.startswith("!")
    return left_out


def _shells(steps: list[tuple[str, str]]) -> Iterator[str]:
    environment = " ".join(rest for word, rest in steps if word == "ENV")
    for word, rest in steps:
        if word == "RUN" and "pip install" in rest and "PIP_NO_CACHE_DIR" not in environment + rest:
            yield "pip keeps its cache in the image; set PIP_NO_CACHE_DIR."
        if word == "RUN" and re.search(r"\bsudo\b|curl[^|]*\|\s*(ba)?sh", rest):
            yield f"RUN takes rights or code from elsewhere: {rest}"


def docker(*words: str, check: bool = True) -> str:
    """Run `docker` and return what it printed."""
    return subprocess.run(["docker", *words], check=check, capture_output=True, text=True).stdout.strip()


def has_daemon() -> bool:
    """Whether Docker is installed and its daemon answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def try_image(run: Path) -> None:
    """Build, start the server with a run, wait until it is healthy, ask it, and stop it."""
    subprocess.run(["docker", "build", "--tag", IMAGE, str(ROOT)], check=True)
    mount = f"{run.resolve()}:/model:ro"
    options = ["--detach", "--read-only", "--tmpfs", "/tmp", "--tmpfs", "/home/pase/cache:uid=10001"]
    container = docker("run", *options, "-p", f"127.0.0.1:{PORT}:8000", "-v", mount, IMAGE)
    try:
        for _ in range(60):
            state = docker("inspect", "--format", "{{.State.Health.Status}}", container)
            if state == "healthy":
                break
            if docker("inspect", "--format", "{{.State.Running}}", container) != "true":
                raise SystemExit(f"the container ended:\n{docker('logs', container, check=False)}")
            time.sleep(5)
        else:
            raise SystemExit("the container was not healthy within five minutes")
        user = docker("exec", container, "id", "-u")
        if user == "0":
            raise SystemExit("the container runs as root")
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=10) as response:
            print(f"healthy, as user {user}: {response.read().decode()}")
    finally:
        docker("rm", "--force", container, check=False)


def main() -> None:
    """Read the Dockerfile; build and try the image where that is possible."""
    found = mistakes((ROOT / "Dockerfile").read_text(), (ROOT / ".dockerignore").read_text())
    if found:
        raise SystemExit("\n".join(found))
    print("Dockerfile: no mistake found")
    if not has_daemon():
        print("no Docker daemon here, so the image is not built")
        return
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/tryout")
    if not run.is_dir():
        raise SystemExit(f"there is no run {run}; `make media` makes one, or name another")
    try_image(run)


if __name__ == "__main__":
    main()

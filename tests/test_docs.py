"""What README and docs say holds: commands parse, links lead somewhere, named code exists, examples run."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import shlex
import sys
import warnings
from pathlib import Path
from typing import get_args

import pytest

from pase_msa import plugins
from pase_msa.balancing import held_out
from pase_msa.cli import main as cli
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.data.transcripts import TextConfig
from pase_msa.heldout.modality_report import MORE
from pase_msa.heldout.verdict import FEW, NEGLIGIBLE, Verdict
from pase_msa.heldout.weights import MOST_COALITIONS
from pase_msa.training.config import EQUILIBRIA, PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """`pase ...` lines of the shell blocks, as words after `pase`."""
    lines = "".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("pase ")]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    found = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in found}


COMMANDS = [(name, words) for name, page in zip(NAMES, PAGES, strict=True) for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[" ".join(words)[:70] for _, words in COMMANDS])
def test_a_command_parses(
    page: str, words: list[str], plugins_of_the_docs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    if len(words) > 1 and words[0] == "train" and not words[1].startswith("-"):
        assert words[1].startswith("RUN/") or Path(words[1]).is_file(), f"{page} names {words[1]}"
    words = cli.expand(words)
    if "--help" in words or "--print_config" in words:  # these end the program
        words = [word for word in words if word not in ("--help", "--print_config")]
    parsed = cli.build_parser(words).parse_args(words)
    assert parsed.command == words[0]


def test_the_readme_shows_every_command() -> None:
    shown = {words[0] for words in commands(ROOT / "README.md")}
    assert shown == {
        "ask",
        "compare",
        "convert",
        "demo",
        "diagnose",
        "evaluate",
        "export",
        "extract",
        "inspect",
        "predict",
        "report",
        "reproduce",
        "serve",
        "study",
        "sweep",
        "train",
    }


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_are_there(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name} links to {target}"


def test_the_equations_name_code_and_tests_that_exist() -> None:
    text = (ROOT / "docs" / "equations.md").read_text()
    code = re.findall(r"`([a-z_.]+):([\w.]+)`", text)
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(code) >= 24
    assert len(tests) == len(code), "a row of code has a row of test"
    for module, attribute in code:
        found: object = importlib.import_module(f"pase_msa.{module}")
        for part in attribute.split("."):
            found = getattr(found, part)
    for file, name in tests:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_the_equations_name_options_that_exist() -> None:
    text = (ROOT / "docs" / "equations.md").read_text()
    for option in re.findall(r"`((?:model|modulation|phases)\.[a-z_]+)[=`]", text):
        assert equilibria_with(option), option
    for option, value in re.findall(r"`((?:model|modulation|phases)\.[a-z_]+)=(\w+)`", text):
        words = ["train", "--equilibrium", equilibria_with(option)[0], f"--{option}", value]
        cli.build_parser(words).parse_args(words)


def equilibria_with(option: str) -> list[str]:
    """The equilibria that have an option of `pase train`."""
    found = []
    for name in EQUILIBRIA:
        words = ["train", "--equilibrium", name]
        if option in cli.build_parser(words).parse_args(words).train:
            found.append(name)
    return found


def test_the_page_of_the_equilibrium_names_every_option_of_it() -> None:
    text = (ROOT / "docs" / "equilibrium.md").read_text()
    named = set(re.findall(r"^\| `([a-z_.]+)` \|", text, re.M))
    assert {f"modulation.{f.name}" for f in dataclasses.fields(held_out.Config)} - {"balancing.name"} <= named
    for option in named:
        assert "held_out" in equilibria_with(option), option


def test_the_page_of_the_equilibrium_names_every_verdict() -> None:
    text = (ROOT / "docs" / "equilibrium.md").read_text()
    section = text.split("## Verdicts and actions")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| ([a-z-]+) \|", section, re.M)) - {"verdict", "---"}
    assert named == {"under-trained", *get_args(Verdict)}


def test_the_numbers_of_the_equilibriums_page_are_those_of_the_code() -> None:
    text = " ".join((ROOT / "docs" / "equilibrium.md").read_text().split())
    assert f"More than {MOST_COALITIONS} coalitions are not played" in text
    assert f"by more than {NEGLIGIBLE:.2f} nats, one-sided {100 * MORE:.0f} %".replace("0.", ".") in text
    assert FEW == 5
    assert "below five videos nothing is shown to be uninformative" in text


def test_the_picture_is_a_picture() -> None:
    from xml.etree import ElementTree

    root = ElementTree.parse(ROOT / "docs" / "img" / "chain.svg").getroot()
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in (ROOT / "docs" / "img" / "chain.svg").read_text()


def test_the_site_has_every_page() -> None:
    listed = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in listed


def test_every_package_is_accounted_for() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    listed = (ROOT / "docs" / "dependencies.md").read_text()
    for name in (re.split(r"[\[<>=~!; ]", item)[0] for item in project["dependencies"] + extras):
        assert name == "pase-msa" or f"`{name}`" in listed, name


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/data.md",
        "docs/diagnosis.md",
        "docs/equilibrium.md",
        "docs/figures.md",
        "docs/studies.md",
        "docs/media.md",
        "docs/demo.md",
    ],
)
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints on loaders are not ours to mend in someone else's code
        exec(compile("\n".join(blocks(ROOT / page, "python")), page, "exec"), {"__name__": "page"})


@pytest.fixture
def plugins_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of docs/extending.md as files in their packages' search paths, for one test."""
    for block in blocks(ROOT / "docs" / "extending.md", "python"):
        place = re.match(r"# src/(pase_msa/(.+)/(\w+)\.py)\n", block)
        assert place is not None, "an example begins with the file that it goes to"
        file = tmp_path / "extending" / place[1]
        file.parent.mkdir(parents=True)
        file.write_text(block)
        kind = place[2].replace("/", ".")
        package = importlib.import_module(f"pase_msa.{kind}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(file.parent)])
        # both are put back as they were: without them
        monkeypatch.setitem(sys.modules, f"pase_msa.{kind}.{place[3]}", None)  # type: ignore[arg-type]
        del sys.modules[f"pase_msa.{kind}.{place[3]}"]
        monkeypatch.setattr(package, place[3], None, raising=False)


@pytest.mark.parametrize(
    "options",
    [
        {"model": {"name": "pase", "fusion": "product"}},
        {"model": {"name": "vote"}},
        {"model": {"name": "vote"}, "balancing": {"name": "held_out"}},
        {"balancing": {"name": "equal"}, "phases": PhaseConfig(start="always")},
        {"encoders": {"audio": {"encoder": "recurrent", "hidden": 8}, "default": {"encoder": "sequence"}}},
    ],
    ids=["fusion", "model", "model held to new videos", "balancing", "encoder"],
)
def test_the_plugins_of_the_docs_train(options: dict[str, object], plugins_of_the_docs: None) -> None:
    spec = SyntheticSpec(
        {"text": ModalitySpec(dim=4), "audio": ModalitySpec(dim=3, missing=0.3)}, train=40, valid=20, test=20
    )
    training = TrainingConfig(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.01, threads=1)
    config = RunConfig(text=TextConfig(), training=training, **options)  # type: ignore[arg-type]
    prepared = prepare(config, synthetic_table(spec))
    before = {name: value.clone() for name, value in prepared.model.state_dict().items()}
    fit(config, prepared, None, progress=False)
    assert any(bool((before[name] != value).any()) for name, value in prepared.model.state_dict().items())


def test_the_format_of_the_docs_reads(tmp_path: Path, plugins_of_the_docs: None) -> None:
    from pase_msa.data import open_table

    assert "jsonl" in plugins.names("data.formats")
    item = {"id": "a", "video": "v", "split": "train", "sentiment": 1.0, "audio": [[1.0, 2.0], [3.0, 4.0]]}
    file = tmp_path / "some.jsonl"
    file.write_text(json.dumps(item) + "\n")
    assert open_table(file).modalities == {"audio": 2}


def test_the_extractor_of_the_docs_extracts(tmp_path: Path, plugins_of_the_docs: None) -> None:
    from PIL import Image

    from pase_msa.media.config import ExtractConfig
    from pase_msa.media.example_clip import write_clip
    from pase_msa.media.pipeline import Extractor

    path = write_clip(tmp_path / "a.mp4", frames=[Image.new("RGB", (64, 48), "white")] * 10)
    clip = Extractor(ExtractConfig(["brightness"])).extract_clip(path)
    assert clip.features["brightness"].shape == (2, 2)
    assert clip.features["brightness"][:, 0].min() > 0.95


def test_the_examples_of_the_docs_leave_no_trace() -> None:
    assert "product" not in plugins.names("fusion")
    assert "vote" not in plugins.names("models")
    assert not [name for name in sys.modules if name.startswith("pase_msa.") and name.endswith((".vote", ".jsonl"))]

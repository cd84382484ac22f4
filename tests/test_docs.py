"""README and docs hold: every block runs alone, links lead somewhere, named code exists, terms are explained."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import get_args

import pytest

from pase_msa import plugins
from pase_msa.balancing import held_out
from pase_msa.cli import main as cli
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.synthetic.spec import ModalitySpec, SyntheticSpec
from pase_msa.data.transcripts import TextConfig
from pase_msa.errors import PaSEError
from pase_msa.heldout.modality_report import MORE
from pase_msa.heldout.verdict import FEW, NEGLIGIBLE, Verdict
from pase_msa.heldout.weights import MOST_COALITIONS
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.fitting import fit
from pase_msa.training.run import prepare

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "experiments" / "ledger").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))

# Why a block is not executed; every mark "not run" in a page gives one of these reasons.
REASONS = {
    "sets up an environment",
    "installs packages",
    "needs data of your own",
    "needs a data set that is not ours to distribute",
    "needs video files",
    "needs a model trained on clips, which `make media` makes in minutes",
    "needs a running server",
    "needs a server with a language model",
}
# The studies behind the ledger take hours, and the data sets are not ours to distribute.
NOT_EXECUTED = {f"experiments/ledger/{page.name}" for page in (ROOT / "experiments" / "ledger").glob("*.md")}
# Its blocks are files of the package; they have a test of their own below.
NOT_EXECUTED.add("docs/contributing/extending.md")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    number: int
    language: str
    reason: str | None
    text: str

    @property
    def id(self) -> str:
        return f"{self.page.removeprefix('docs/')}-{self.number}"


def blocks(page: Path) -> Iterator[Block]:
    found = re.finditer(r"(?:<!-- not run: (.*?) -->\n)?^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S)
    for number, match in enumerate(found, 1):
        yield Block(str(page.relative_to(ROOT)), number, match[2], match[1], match[3])


BLOCKS = [block for page in PAGES for block in blocks(page)]
EXECUTED = [block for block in BLOCKS if block.reason is None and block.page not in NOT_EXECUTED]


def statements(text: str) -> Iterator[tuple[str, str | None]]:
    """The commands of a shell block, each with the text of its here-document."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        here = re.search(r"<<'(\w+)'", line)
        body = None
        if here:
            body = "".join(f"{inner}\n" for inner in iter(lambda: next(lines), here[1]))
        yield line, body


def pase_commands(block: Block) -> list[list[str]]:
    """The words after `pase` of a block's commands, without redirections."""
    lines = [line for line, _ in statements(block.text) if line.startswith("pase ")]
    return [shlex.split(line.partition(" > ")[0], comments=True)[1:] for line in lines]


# blocks run alone, in a fresh folder: -------------------------------------------------------------


def is_run_elsewhere(block: Block) -> bool:
    """Whether another test runs a block and looks at its result: below, and in tests/serve/test_export.py."""
    readme = block.page == "README.md" and "modality_report_" in block.text
    return block.language == "python" and (readme or block.page == "docs/guides/export.md")


PYTHON = [block for block in EXECUTED if block.language == "python" and not is_run_elsewhere(block)]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.id)
def test_a_python_block_runs(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints on loaders are not ours to mend in someone else's code
        exec(compile(block.text, block.id, "exec"), {"__name__": "block"})


# what the quick suite tests elsewhere: every export is in tests/serve/test_export.py
LONG = {"guides/export.md-1"}
SHELL = [
    pytest.param(block, id=block.id, marks=[pytest.mark.slow] if block.id in LONG else [])
    for block in EXECUTED
    if block.language == "bash"
]


@pytest.mark.parametrize("block", SHELL)
def test_a_shell_block_runs(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pase` runs in this process, since starting it for every command would take most of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PASE_CACHE", str(tmp_path / "cache"))
    for line, body in statements(block.text):
        if line.startswith("pase "):
            run_pase(line, capsys)
        else:
            line = line.replace("python ", f"{shlex.quote(sys.executable)} ", 1) if line.startswith("python ") else line
            text = f"{line}\n" if body is None else f"{line}\n{body}END\n"
            subprocess.run(["bash", "-euc", text], check=True, capture_output=True, timeout=120)


def run_pase(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    command, _, target = line.partition(" > ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            status = cli.main(shlex.split(command, comments=True)[1:])
        except SystemExit as done:  # --help and --print-config end the program
            status = int(done.code or 0)
    printed = capsys.readouterr()
    assert status == 0, f"{line}: {printed.err}"
    if target:
        Path(shlex.split(target, comments=True)[0]).write_text(printed.out)
        json.loads(printed.out)


@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda notebook: notebook.stem)
@pytest.mark.slow
def test_a_tutorial_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict[str, object] = {"__name__": "notebook"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, cell in enumerate(cells, 1):
            exec(compile("".join(cell["source"]), f"{notebook.stem}, cell {number}", "exec"), names)


def test_tutorials_have_their_outputs() -> None:
    assert [notebook.stem for notebook in TUTORIALS] == ["first-run", "one-piece", "own-data", "trust"]
    for notebook in TUTORIALS:
        text = notebook.read_text()
        assert any(cell.get("outputs") for cell in json.loads(text)["cells"]), notebook.name
        assert not re.search(r"/(home|root|tmp|work)/", text), f"{notebook.name} names paths of a machine"


def test_the_readme_prints_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Verdicts word by word; numbers may differ in the last digit between machines."""
    block, shown = [b for b in blocks(ROOT / "README.md") if b.language in ("python", "text")][1:3]
    assert "modality_report_" in block.text
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(block.text, "README", "exec"), {"__name__": "block"})
    assert capsys.readouterr().out.splitlines()[:3] == shown.text.splitlines()[:3]


# what is not executed: ----------------------------------------------------------------------------


def test_every_block_that_is_not_run_has_a_reason() -> None:
    assert {block.reason for block in BLOCKS} - {None} == REASONS
    assert {block.language for block in BLOCKS} <= {"python", "bash", "text", "bibtex", "yaml"}
    # an indented block would be found by no test
    assert not [name for name, page in zip(NAMES, PAGES, strict=True) if re.search(r"^ +```", page.read_text(), re.M)]


NOT_RUN = [block for block in BLOCKS if block not in EXECUTED and block.language == "bash"]
PARSED = [(block.page, words) for block in NOT_RUN for words in pase_commands(block)]


@pytest.mark.parametrize(("page", "words"), PARSED, ids=[" ".join(words)[:70] for _, words in PARSED])
def test_a_command_that_is_not_run_parses(page: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.parse(words).command == words[0]


def test_the_docs_show_every_command() -> None:
    shown = {words[0] for block in BLOCKS if block.language == "bash" for words in pase_commands(block)}
    assert shown == set(cli.commands())


# links, names, numbers: ---------------------------------------------------------------------------


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        # the command line is a page that is made when the site is built
        assert there.is_file() or there.name in ("command-line.md", "internals.md"), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name} links to {target}"


@pytest.mark.parametrize("notebook", TUTORIALS, ids=lambda notebook: notebook.stem)
def test_links_of_tutorials_are_there(notebook: Path) -> None:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "markdown"]
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", "".join("".join(cell["source"]) for cell in cells)):
        assert (notebook.parent / target).exists(), f"{notebook.name} links to {target}"


def test_the_readme_is_short_and_needs_no_data() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 160
    assert "../" not in text


def test_the_equations_name_code_and_tests_that_exist() -> None:
    text = (ROOT / "docs" / "concepts" / "equations.md").read_text()
    code = re.findall(r"`([a-z_.]+):([\w.]+)`", text)
    tests = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(code) >= 24
    assert len(tests) == len(code), "a row of code has a row of test"
    for module, attribute in code:
        named: object = importlib.import_module(f"pase_msa.{module}")
        for part in attribute.split("."):
            named = getattr(named, part)
    for file, name in tests:
        assert f"def {name}(" in (ROOT / file).read_text(), f"{file}::{name}"


def test_the_equations_name_options_that_exist() -> None:
    text = (ROOT / "docs" / "concepts" / "equations.md").read_text()
    for option in re.findall(r"`((?:model|balancing|phases)\.[a-z_]+)[=`]", text):
        assert methods_with(option), option
    for option, value in re.findall(r"`((?:model|balancing|phases)\.[a-z_]+)=(\w+)`", text):
        cli.parse(["train", "--balancing", methods_with(option)[0], f"--{option}", value])


def methods_with(option: str) -> list[str]:
    """The balancing methods of PaSE that have an option of `pase train`."""
    group, _, name = option.partition(".")
    found = []
    for method in ("held_out", "sgm"):
        options = cli.parse(["train", "--balancing", method]).arguments[group]
        plain = options if isinstance(options, dict) else dataclasses.asdict(options)
        if name in plain:
            found.append(method)
    return found


def test_the_page_on_held_out_evidence_names_every_option_of_it() -> None:
    text = (ROOT / "docs" / "concepts" / "held-out.md").read_text()
    named = set(re.findall(r"^\| `([a-z_.]+)` \|", text, re.M))
    assert {f"balancing.{f.name}" for f in dataclasses.fields(held_out.Config)} - {"balancing.name"} <= named
    for option in named - {"training.modality_dropout"}:
        assert "held_out" in methods_with(option), option


def test_the_page_on_held_out_evidence_names_every_verdict() -> None:
    text = (ROOT / "docs" / "concepts" / "held-out.md").read_text()
    section = text.split("## Verdicts and actions")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| ([a-z-]+) \|", section, re.M)) - {"verdict", "---"}
    assert named == {"under-trained", *get_args(Verdict)}


def test_the_numbers_of_that_page_are_those_of_the_code() -> None:
    text = " ".join((ROOT / "docs" / "concepts" / "held-out.md").read_text().split())
    assert f"at most {MOST_COALITIONS} coalitions are evaluated" in text
    assert f"by more than {NEGLIGIBLE:.2f} nats, one-sided {100 * MORE:.0f} %".replace("0.", ".") in text
    assert FEW == 5
    assert "Below five videos no modality is shown to be uninformative" in text


def test_the_glossary_explains_every_term() -> None:
    text = (ROOT / "docs" / "concepts" / "glossary.md").read_text().lower()
    for term in [
        "nat",
        "shapley",
        "coalition",
        "reference",
        "excluded",
        "folds",
        "equilibrium",
        "trust",
        "pcl",
        "cal",
        "sgm",
        "prototype",
        "convention",
        "identity",
        "cell",
        "memorised",
        "deceptive",
        "uninformative",
        "undecided",
        "under-trained",
        "prediction-weight",
        "cross-fitted",
        "gate",
        "imputation",
        "mask",
    ]:
        assert re.search(rf"^## .*{term.replace('-', '.')}", text, re.M), term
    assert re.search(r"^## phase 1, phase 2", text, re.M)


def test_no_puzzling_sentence_is_left() -> None:
    puzzling = (
        "plays the same game",
        "That is shrinkage and no threshold",
        "less plain modality dropout",
        "those that it cannot tell apart share",
        "A closed modality plays among all",
        "the reference speaks for it",
        "has a say in",
        "one ragged column a modality",
        "knowing nothing out of fold",
        "it is made whole or not at all",
    )
    for page in [*PAGES, *TUTORIALS]:
        text = " ".join(page.read_text().split())
        for sentence in puzzling:
            assert sentence not in text, f"{page.name}: {sentence}"


def test_the_picture_is_a_picture() -> None:
    from xml.etree import ElementTree

    root = ElementTree.parse(ROOT / "docs" / "img" / "chain.svg").getroot()
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in (ROOT / "docs" / "img" / "chain.svg").read_text()


def test_the_site_has_every_page_and_fetches_nothing() -> None:
    settings = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        assert str(page.relative_to(ROOT / "docs")) in settings
    for notebook in TUTORIALS:
        assert f"tutorials/{notebook.stem}.md" in settings
    assert "http" not in settings
    assert "url(http" not in (ROOT / "docs" / "assets" / "katex" / "katex.min.css").read_text()
    assert "MIT License" in (ROOT / "docs" / "assets" / "katex" / "LICENSE").read_text()


def test_every_package_is_accounted_for() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    listed = (ROOT / "docs" / "contributing" / "dependencies.md").read_text()
    for name in (re.split(r"[\[<>=~!; ]", item)[0] for item in project["dependencies"] + extras):
        assert name == "pase-msa" or f"`{name}`" in listed, name


# the examples of docs/contributing/extending.md: --------------------------------------------------


@pytest.fixture
def plugins_of_the_docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples as files in their packages' search paths, for one test."""
    page = ROOT / "docs" / "contributing" / "extending.md"
    found_on_disk = plugins._modules

    def with_those_of_the_docs(kind: str) -> dict[str, ModuleSpec]:
        folder = tmp_path.joinpath("extending", "pase_msa", *kind.split("."))
        specs = {m.name: m.module_finder.find_spec(m.name, None) for m in pkgutil.iter_modules([str(folder)])}
        return {**found_on_disk(kind), **specs}  # type: ignore[dict-item]

    monkeypatch.setattr(plugins, "_modules", with_those_of_the_docs)
    for block in (block.text for block in blocks(page) if block.language == "python"):
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
    ids=["fusion", "model", "model with held-out balancing", "balancing", "encoder"],
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


def test_the_commands_of_the_plugins_parse(plugins_of_the_docs: None) -> None:
    text = (ROOT / "docs" / "contributing" / "extending.md").read_text()
    for line in re.findall(r"`(pase train [^`]*)`", text):
        cli.parse(shlex.split(line)[1:])


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
    with pytest.raises(PaSEError):
        cli.parse(["train", "--model", "vote"])

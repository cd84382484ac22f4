"""What every table and figure on disk keeps to."""

import re

import pandas as pd
import pytest

from pase_msa import plugins
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.data.table import FeatureTable
from pase_msa.errors import PaSEError
from pase_msa.evaluation.evaluate import evaluate
from pase_msa.files import read_json
from pase_msa.paper.layout import Section, write_section
from pase_msa.paper.methods import completed
from pase_msa.paper.protocol import Protocol
from pase_msa.paper.results import Results
from pase_msa.training.config import PhaseConfig, RunConfig, TrainingConfig
from pase_msa.training.run import train
from tests.toys import tiny_spec

NAMES = plugins.names("paper")
each_name = pytest.mark.parametrize("name", NAMES)
SENTENCE = re.compile(r"[A-Z`±].*[.]", re.S)
SEEDS = (1, 2)


def in_sessions(table, count):
    """The same data, with the videos named as recorded in sessions."""
    places = {video: place for place, video in enumerate(dict.fromkeys(table.videos))}
    rows = []
    for row in range(len(table)):
        utterance = table.utterance(row)
        utterance.video = f"Ses0{places[utterance.video] % count + 1}F_{utterance.video}"
        rows.append(utterance)
    return FeatureTable.build(rows, table.schema, meta=table.meta)


@pytest.fixture(scope="module")
def protocols(tmp_path_factory):
    """Scores, and classes in recorded sessions, each saved where a run finds it."""
    root = tmp_path_factory.mktemp("paper")
    classes = in_sessions(synthetic_table(tiny_spec("classification")), 3)
    tables = {"mosi_toy": synthetic_table(tiny_spec()), "iemocap_toy": classes}
    for name, table in tables.items():
        table.save(root / name)
    return {name: Protocol(name, str(root / name), table, SEEDS) for name, table in tables.items()}


@pytest.fixture(scope="module")
def runs(protocols, tmp_path_factory):
    """By protocol and seed, an evaluated run of PaSE that every method of a stored result stands on."""
    root = tmp_path_factory.mktemp("runs")

    def run(protocol, seed):
        config = RunConfig(
            data=protocol.path,
            out=str(root / f"{protocol.name}-{seed}"),
            seed=seed,
            model={"name": "pase", "width": 4},
            balancing={"name": "sgm"},
            encoders={"default": {"hidden": 4}},
            phases=PhaseConfig(start="always"),
            training=TrainingConfig(epochs=2, batch_size=16, threads=1, accelerator="cpu"),
        )
        folder = train(config, progress=False).path
        evaluate(folder)
        return folder

    return {(name, seed): run(protocol, seed) for name, protocol in protocols.items() for seed in SEEDS}


def fitting(name, protocols):
    """The module, and the first protocol that its `variants` do not refuse."""
    module = plugins.load("paper", name)
    refusals = []
    for protocol in protocols.values():
        try:
            return module, protocol, module.variants(protocol)
        except PaSEError as error:
            refusals.append(str(error))
    pytest.fail(f"{name} fits neither scores nor classes: {refusals}")


def stored(name, protocol, variants, runs, root):
    """Results in which every variant is finished, all on the same runs; scores differ a little between variants."""
    rows = []
    for place, variant in enumerate(variants):
        for seed in SEEDS:
            run = runs[protocol.name, seed]
            metrics = dict(read_json(run / "evaluation.json")["metrics"])
            classes = metrics.pop("per_class", {})
            flat = metrics | {f"per_class/{c}/{k}": v for c, row in classes.items() for k, v in row.items()}
            scores = {f"test/{key}": value + 0.001 * place for key, value in flat.items() if value is not None}
            cost = {"parameters": 100, "seconds_an_epoch": 0.5, "peak_memory_mb": 200}
            labels = {"data": protocol.name, "variant": variant, "seed": seed, "status": "done", "run": str(run)}
            rows.append({**labels, **cost, **scores})
    columns = ["data", "variant", "seed", "status", "run"]
    return Results(protocol, pd.DataFrame(rows, columns=None if rows else columns), root, name)


@each_name
@pytest.mark.parametrize("text", ["frozen", "fine-tuned"])
def test_variants_are_configurations_that_can_be_run(name, text, protocols):
    module, protocol, _ = fitting(name, protocols)
    protocol = Protocol(protocol.name, protocol.path, protocol.table, SEEDS, text=text)
    variants = module.variants(protocol)
    assert variants
    for options in variants.values():
        options = completed(protocol, options)
        if options["model"]["name"] == "ridge":
            continue  # solved in closed form, not by a run
        config = RunConfig.from_options(options)
        for kind, given in (("models", config.model), ("balancing", config.balancing)):
            if "name" in given:
                rest = {key: value for key, value in given.items() if key != "name"}
                plugins.configure(plugins.load(kind, given["name"]).Config, rest, given["name"])


@pytest.fixture(scope="module")
def sections(protocols, runs, tmp_path_factory):
    """Sections by name, each built once."""
    built = {}

    def section(name):
        if name not in built:
            module, protocol, variants = fitting(name, protocols)
            built[name] = module.build(stored(name, protocol, variants, runs, tmp_path_factory.mktemp(name)))
        return built[name]

    return section


@each_name
def test_a_section_has_tables_and_figures_with_data(name, sections, tmp_path):
    section = sections(name)
    assert isinstance(section, Section)
    assert section.tables
    for table in section.tables:
        assert table.rows
        assert len(table.data)
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert "nan" not in " ".join(cell for row in table.rows for cell in row)
    for figure in section.figures:
        assert len(figure.data)
        assert any(axes.get_visible() and axes.get_xlabel() for axes in figure.drawing.axes)
    file = write_section(section, tmp_path, name, ["About."])
    text = file.read_text()
    stems = [part.stem for part in (*section.tables, *section.figures)]
    assert len(set(stems)) == len(stems)
    for stem in stems:
        assert f"`{stem}.csv`" in text
        assert (tmp_path / f"{stem}.csv").is_file()


@each_name
def test_titles_and_notes_are_words_for_readers(name, sections, protocols):
    section = sections(name)
    assert section.title.endswith(tuple(protocols))
    assert section.title[0].isupper()
    assert section.notes
    for sentence in (*section.notes, *(figure.caption for figure in section.figures)):
        assert SENTENCE.fullmatch(sentence), sentence
    for table in section.tables:
        assert len(table.title.split()) > 1


def built_or_refused(name, protocols, runs, root, count):
    """The section from the last `count` variants, or the sentence that refuses them."""
    module, protocol, variants = fitting(name, protocols)
    try:
        return module.build(stored(name, protocol, list(variants)[len(variants) - count :], runs, root)), ""
    except PaSEError as error:
        return None, str(error)


@each_name
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_finished_runs_are_refused_in_a_sentence_or_enough_for_a_table(name, count, protocols, runs, tmp_path):
    section, refusal = built_or_refused(name, protocols, runs, tmp_path, count)
    if section is None:
        assert re.search(r"finished|found none|there is", refusal)
        assert refusal.endswith(".")
    else:
        assert any(table.rows for table in section.tables)


DRAWINGS = {
    f"{name}.{key}": function
    for name in NAMES
    for key, function in vars(plugins.load("paper", name)).items()
    if key.startswith("draw") and function.__module__ == f"pase_msa.paper.{name}"
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=list(DRAWINGS))
@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"method": ["PaSE"]})], ids=["empty", "partial"])
def test_a_measurement_that_cannot_be_drawn_is_refused_in_a_sentence(draw, frame):
    with pytest.raises(PaSEError, match=r"nothing to draw|cannot be drawn"):
        draw(frame)

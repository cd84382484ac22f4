"""What tables say of reduced systems, of doubtful quoted values, of the number of comparisons, and of chosen rows."""

import dataclasses

import pandas as pd
import pytest
import yaml

from pase_msa import plugins
from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.errors import PaSEError
from pase_msa.paper import methods, table1, table2
from pase_msa.paper.protocol import Protocol
from pase_msa.paper.quoted import doubts, quoted
from pase_msa.paper.reduced import reduction
from pase_msa.paper.results import Results
from pase_msa.paper.run import reproduce
from tests.contracts.test_paper import in_sessions
from tests.toys import tiny_spec

MODELS = set(plugins.names("models")) - {"pase"}
BALANCING = set(plugins.names("balancing")) - {"none"}
REDUCED = ("semi_iin", "kebr", "conki", "smil", "corrkd", "msamba", "confede", "mag_bert")


def results(protocol, variants, folds=1):
    """Finished variants, the same with all seeds, so that intervals cost nothing."""
    classes = [f"per_class/{name}/f1" for name in protocol.task.classes]
    rows = []
    for place, variant in enumerate(variants):
        scores = {f"test/{key}": 0.25 + place / 256 for key in (*protocol.metrics, *classes)}
        costs = {"parameters": 100, "seconds_an_epoch": 0.5, "peak_memory_mb": 200}
        for fold in range(folds):
            labels = {"data": f"{protocol.name}-{fold}", "variant": variant, "seed": 1, "status": "done"}
            rows += [{**labels, "seed": seed, **costs, **scores} for seed in protocol.seeds]
    return Results(protocol, pd.DataFrame(rows), None, "table")


@pytest.fixture(scope="module")
def first():
    """Table 1 for scores on data called mosi: the reduced models, and a few methods more; with 8 seeds p is 2 / 2^8."""
    protocol = Protocol("mosi_toy", None, synthetic_table(tiny_spec()), range(8))
    offered = table1.variants(protocol)
    few = ("text alone", "tfn", "concat", "concat + lfm", "concat + held_out", methods.PAPER, methods.PASE)
    variants = [name for name in offered if name in (*REDUCED, *few)]
    section = table1.build(results(protocol, variants))
    return offered, variants, section, {table.stem: table for table in section.tables}


@pytest.fixture(scope="module")
def second():
    """Table 2 over three sessions, with a few models and balancing methods."""
    table = in_sessions(synthetic_table(tiny_spec("classification")), 3)
    protocol = Protocol("iemocap_toy", None, table, (1, 2))
    offered = table2.variants(protocol)
    few = ("text alone", "smil", "concat", "concat + agm", "concat + sgm", methods.PAPER, methods.PASE)
    variants = [name for name in offered if name in few]
    section = table2.build(results(protocol, variants, folds=3))
    return offered, variants, {table.stem: table for table in section.tables}


def names_in(table):
    return [row[0] for row in table.rows]


@pytest.mark.parametrize("stem", ["table1", "table1-differences"])
def test_a_reduced_system_says_what_it_lacks(first, stem):
    shown = [name.removesuffix(" (best baseline)") for name in names_in(first[3][stem])]
    for name in (*REDUCED, "concat + lfm"):
        assert reduction(name)
        assert f"{name} (reduced: {reduction(name)})" in shown
        assert name not in shown
    assert {"tfn", "concat", "concat + held_out", "text alone"} <= set(shown)


def test_the_quoted_row_of_a_reduced_system_is_marked_as_the_whole_one(first):
    _, _, section, tables = first
    shown = names_in(tables["table1"])
    assert {"quoted: Semi-IIN (the whole system)", "quoted: KEBR (the whole system)", "quoted: MuLT"} <= set(shown)
    assert any("marked as reduced" in note for note in section.notes)
    data = tables["table1"].data
    assert (data[data["method"] == "kebr"]["reduced"] == reduction("kebr")).all()


@pytest.mark.parametrize(
    ("stem", "ours"), [("table1-differences", methods.PASE), ("table1-differences-paper", methods.PAPER)]
)
def test_every_method_is_compared_and_corrected_for_all(first, stem, ours):
    _, variants, _, tables = first
    data, others = tables[stem].data, set(variants) - {ours}
    for _, rows in data.groupby(["metric", "unit"]):
        assert set(rows["baseline"]) == others
        assert set(rows["comparisons"]) == {len(others)}
        # all differences are the same with every seed, so that all p are 2 / 2^8
        assert list(rows["p_holm"]) == pytest.approx([len(others) * 2 / 2**8] * len(others))
    assert [name for name in tables[stem].columns if "Holm" in name] == [f"p (Holm, of {len(others)})"] * 2


def test_both_tables_offer_every_model_and_balancing_method(first, second):
    for offered in (first[0], second[0]):
        assert set(offered) >= MODELS
        assert {f"concat + {name}" for name in BALANCING} <= set(offered)


def test_doubtful_quoted_values_are_printed_as_they_are_and_marked(first):
    _, _, section, tables = first
    table = tables["table1"]
    row = dict(zip(table.columns, next(r for r in table.rows if r[0].startswith("quoted: ConFEDE")), strict=True))
    assert (row["MAE ↓"], row["Corr ↑"], row["Acc-7 ↑"]) == ("0.784 †", "0.742 †", "42.27")
    assert any(
        note.startswith("Quoted as printed but doubtful (†): MAE and Corr of ConFEDE are exchanged")
        for note in section.notes
    )
    marked = table.data.dropna(subset=["doubt"])
    assert set(marked["method"]) == {"quoted: ConFEDE", "quoted: MAG-BERT", "quoted: SelfMM", "quoted: HyCon"}


def test_every_doubt_is_about_a_quoted_value():
    keys = ["table", "dataset", "method", "metric"]
    printed = set(quoted(1)[keys].itertuples(index=False, name=None))
    found = pd.concat([doubts(1, name) for name in ("mosi", "mosei")])
    assert set(found[keys].itertuples(index=False, name=None)) <= printed
    assert doubts(1, "iemocap").empty
    assert doubts(3, "mosi").empty


def test_table_2_has_costs_and_balancing_apart_from_models(second):
    _, variants, tables = second
    for stem in ("table2-overall", "table2-balancing-overall"):
        assert {"parameters", "s per epoch", "peak memory, MiB"} <= set(tables[stem].columns)
        assert {"parameters", "seconds_an_epoch", "peak_memory_mb"} <= set(tables[stem].data["metric"])
    models = {name for name in variants if " + " not in name}
    balanced = {"concat", "concat + agm", "concat + sgm", methods.PAPER, methods.PASE}
    for stem, expected in (("table2", models), ("table2-overall", models), ("table2-balancing", balanced)):
        assert {name for name in tables[stem].data["method"] if not name.startswith("quoted: ")} == expected
    assert set(tables["table2-differences"].data["baseline"]) == set(variants) - {methods.PASE, methods.PAPER}
    assert "quoted: SMIL (the whole system)" in names_in(tables["table2"])


def test_published_classes_are_found_by_their_first_letters():
    table = in_sessions(synthetic_table(tiny_spec("classification")), 3)
    protocol = Protocol("iemocap_toy", None, table, (1, 2))
    task = dataclasses.replace(protocol.task, classes=("hap", "Neutral", "exc"))
    protocol.__dict__["task"] = task
    section = table2.build(results(protocol, ["concat"], folds=3))
    row = next(row for row in section.tables[0].rows if row[0] == "quoted: MCTN")
    assert row[1:4] == ["83.1", "67.7", ""]


@pytest.mark.parametrize(
    ("wanted", "chosen", "words"),
    [
        (["table1"], ["tfnn"], "table1 has no 'tfnn'"),
        (["table1", "table3"], ["tfn", "PaSE papr", "PaSE"], "did you mean 'PaSE paper'"),
        (["table1", "table3"], ["tfn"], "table3 has no 'tfn'"),
    ],
)
def test_a_method_that_no_table_has_is_refused_before_anything_runs(wanted, chosen, words, tmp_path):
    protocol = Protocol("toy", None, synthetic_table(tiny_spec()), [1])
    with pytest.raises(PaSEError, match=words):
        reproduce(wanted, protocol, out=tmp_path / "out", root=tmp_path / "runs", command=[], methods=chosen)
    assert not (tmp_path / "out").exists()


def test_tables_of_another_label_have_another_folder():
    table = synthetic_table(tiny_spec())
    assert Protocol("data", None, table, [1], base={"label": "valence"}).folder == "data-valence"
    assert Protocol("data", None, table, [1]).folder == "data"


def test_two_labels_contradict_each_other(tmp_path, capsys):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({"label": "valence"}))
    assert main(["reproduce", "table1", "--label", "arousal", "--base", str(tmp_path / "base.yaml")]) == 2
    assert "--label is 'arousal'" in capsys.readouterr().err

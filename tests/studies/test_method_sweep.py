"""A sweep over methods: equal numbers of trials, standard options first, what is chosen, and how tables take it."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pase_msa.cli.main import main
from pase_msa.data.synthetic.generate import synthetic_table
from pase_msa.errors import PaSEError
from pase_msa.paper import table1, table3
from pase_msa.paper.methods import completed
from pase_msa.paper.protocol import Protocol
from pase_msa.paper.tuned import Tuned, read_tuned
from pase_msa.studies import sweep as sweeping
from pase_msa.studies.method_space import complete, searches
from pase_msa.studies.method_sweep import run_method_sweep
from pase_msa.studies.methods import method_options
from pase_msa.studies.space import Sweep, holds
from pase_msa.studies.sweep import read_sweep, run_sweep
from tests.toys import tiny_spec

ROOT = Path(__file__).parents[2]
BASE = {
    "model": {"width": 4},
    "encoders": {"default": {"hidden": 4}},
    "training": {"epochs": 2, "threads": 1, "accelerator": "cpu", "batch_size": 16},
}
SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.width": {"choices": [4, 8]},
}
METHODS = ["tfn", "concat + agm"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    synthetic_table(tiny_spec(), path=folder / "data")
    content = {"base": BASE, "space": SPACE, "data": str(folder / "data"), "methods": METHODS}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def table(root):
    """Two trials of either method."""
    return run_method_sweep(read_sweep(root / "tiny.yaml"), root / "out", trials=2, jobs=1, progress=False)


def trials_of(folder, method):
    return pd.read_csv(folder / "methods" / method / "trials.csv").sort_values("trial", ignore_index=True)


def plan(**changes):
    return dataclasses.replace(Sweep("toy", BASE, SPACE, None, METHODS), **changes)


def test_every_method_has_as_many_trials_and_its_costs(table, root):
    assert list(table.method) == METHODS
    assert list(table.complete + table.pruned) == [2, 2]
    assert not table.failed.any()
    for name in ("parameters", "seconds_an_epoch", "peak_memory_mb", "seconds"):
        assert (table[name] > 0).all(), name
    assert (table.value <= table.default).all(), "the search loses nothing by validation"
    written = pd.read_csv(root / "out" / "methods.csv")
    pd.testing.assert_frame_equal(written.drop(columns="error"), table.drop(columns="error"), check_dtype=False)


def test_the_first_trial_is_the_base_as_it_is(table, root, tmp_path):
    for method, folder in zip(METHODS, ("tfn", "concat_+_agm"), strict=True):
        first = trials_of(root / "out", folder).iloc[0]
        assert first["training.learning_rate"] == 5e-4, "the default of a run"
        assert first["model.width"] == 4
        assert first["value"] == pytest.approx(table.set_index("method").default[method])
    options = {**searches(read_sweep(root / "tiny.yaml"))["tfn"].base, "data": str(root / "data")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(options))
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]) == 0
    results = yaml.safe_load((tmp_path / "run" / "results.json").read_text())
    assert results["validation"]["mae"] == pytest.approx(table.default[0], abs=1e-6)


def test_methods_are_tried_at_the_same_places(table, root):
    first, second = (trials_of(root / "out", folder) for folder in ("tfn", "concat_+_agm"))
    pd.testing.assert_frame_equal(first[list(SPACE)], second[list(SPACE)])


def test_the_chosen_options_are_those_of_the_best_trial(table, root):
    chosen = yaml.safe_load((root / "out" / "options.yaml").read_text())
    assert chosen.pop("about")["trials"] == dict.fromkeys(METHODS, 2)
    assert list(chosen) == METHODS
    for row in table.to_dict("records"):
        file = row["method"].replace(" ", "_")
        best = yaml.safe_load((root / "out" / "best" / f"{file}.yaml").read_text())
        assert best.pop("data") == str(root / "data")
        assert best == chosen[row["method"]]
        filled = complete(best)
        assert filled["model"]["width"] == row["model.width"]
        assert filled["training"]["learning_rate"] == pytest.approx(row["training.learning_rate"])


def test_a_sweep_that_is_cut_short_goes_on_and_more_trials_add(table, root, tmp_path, monkeypatch):
    sweep, calls, fit = read_sweep(root / "tiny.yaml"), [], sweeping.fit

    def cut_short(*args, **options):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt  # like a kill, it leaves a trial that is neither complete nor failed
        return fit(*args, **options)

    monkeypatch.setattr(sweeping, "fit", cut_short)
    with pytest.raises(KeyboardInterrupt):
        run_method_sweep(sweep, tmp_path, trials=1, jobs=1, progress=False)
    again = run_method_sweep(sweep, tmp_path, trials=1, jobs=1, progress=False)
    assert list(again.complete + again.pruned) == [1, 1]
    assert again.failed.tolist() == [0, 1]
    assert again.default.tolist() == pytest.approx(table.default.tolist())
    trained = len(calls)
    more = run_method_sweep(sweep, tmp_path, trials=2, jobs=1, progress=False)
    assert list(more.complete + more.pruned) == [2, 2]
    assert len(calls) == trained + 2, "nothing is trained again"


def test_a_trial_that_fails_stops_no_other_and_is_none_of_the_complete_ones(root, tmp_path, capsys):
    # the tensor of three vectors of size 64 is larger than it may be
    methods = {"tfn": {"base": {"model": {"width": 64}}, "space": {"model.width": {"choices": [64]}}}, "concat": None}
    content = {"base": BASE, "space": SPACE, "data": str(root / "data"), "methods": methods}
    (tmp_path / "wide.yaml").write_text(yaml.safe_dump(content))
    words = ["sweep", str(tmp_path / "wide.yaml"), "--trials", "2", "--jobs", "1", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "tfn has 0 trials of 2 (The model tfn multiplies 3 modality vectors" in said.err
    found = pd.read_csv(tmp_path / "out" / "methods.csv").set_index("method")
    assert found.loc["tfn", ["complete", "pruned", "failed"]].tolist() == [0, 0, 2]
    assert found.loc["concat", ["complete", "failed"]].tolist() == [2, 0]
    assert np.isnan(found.loc["tfn", "value"])
    assert set(yaml.safe_load((tmp_path / "out" / "options.yaml").read_text())) == {"about", "concat"}
    assert "| tfn | n/a | n/a | 0 | 0 | 2 |" in said.out


def test_the_command_prints_a_row_per_method_and_what_to_do_next(table, root, capsys):
    words = ["sweep", str(root / "tiny.yaml"), "--trials", "2", "--jobs", "1", "--out", str(root / "out")]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| method | mae, best | default | trials |")
    assert [line.split(" | ")[0] for line in printed[2:4]] == ["| tfn", "| concat + agm"]
    options = root / "out" / "options.yaml"
    assert printed[-1] == f"next: pase reproduce table1 --data {root / 'data'} --tuned {options}"


def test_all_methods_are_the_baselines_of_table_1_and_both_versions_of_pase():
    found = searches(read_sweep(ROOT / "experiments" / "methods.yaml"))
    variants = table1.variants(Protocol("toy", None, synthetic_table(tiny_spec()), [1]))
    others = {name for name in variants if name.endswith((" alone", " + sgm", " + held_out")) or "PaSE +" in name}
    assert set(found) == set(variants) - others - {"ridge"}
    assert {tuple(each.space) for each in found.values()} == {
        ("training.learning_rate", "training.weight_decay", "model.width")
    }
    for name, options in variants.items():
        if name != "ridge":
            assert method_options(name) == options


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"space": {"model.hidden": {"low": 4, "high": 8}}, "methods": ["concat + agm"]},
            "'concat + agm' has no option 'model.hidden'",
        ),
        ({"space": {"model.widht": {"choices": [4]}}}, "did you mean 'width'?"),
        ({"methods": ["ridge"]}, "closed form"),
        ({"methods": {"ridge": {"base": {"model": {"name": "ridge"}}}}}, "closed form"),
        ({"methods": ["tnf"]}, "did you mean 'tfn'?"),
        ({"methods": ["pase"]}, "two versions, 'PaSE' and 'PaSE paper'"),
        ({"methods": ["concat + amg"]}, "did you mean 'agm'?"),
        ({"methods": [3]}, "a list of names"),
        ({"methods": {"tfn": {"bass": {}}}}, "'bass'"),
        ({"methods": {"tfn": [4]}}, "base and space"),
        ({"methods": {"tfn": {"base": {"label": "x"}}}}, "incomparable"),
        ({"methods": {"tfn": {"base": {"model": {"name": "lmf"}}}}}, "another name"),
        ({"methods": {"tfn": {"base": {"model": {"rank": 3}}}}}, "'tfn' cannot be run with its base"),
        ({"methods": {"tfn": {"space": {"model.name": {"choices": ["lmf"]}}}}}, "model.name"),
        ({"methods": {"tfn": {"space": {"model.width": 3}}}}, "{low, high}"),
        ({"space": {}}, "Nothing is to be searched for the method 'tfn'"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_starts(changes, words, tmp_path):
    with pytest.raises(PaSEError) as caught:
        run_method_sweep(plan(**changes), tmp_path / "out", jobs=1, progress=False)
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_method_of_ones_own_is_named_by_its_base():
    found = searches(plan(methods={"narrow": {"base": {"model": {"name": "concat"}}, "space": SPACE}}))
    assert found["narrow"].base["model"] == {"width": 4, "name": "concat"}


def test_a_sweep_of_one_method_and_one_of_many_are_told_apart(root, tmp_path):
    with pytest.raises(PaSEError, match="has methods"):
        run_sweep(read_sweep(root / "tiny.yaml"), tmp_path, jobs=1, progress=False)
    (tmp_path / "x.yaml").write_text("space: {a: {choices: [1]}}\nmethods: []\n")
    with pytest.raises(PaSEError, match="no method"):
        read_sweep(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ({"choices": [4, [1]]}, [4, [1]], [5, None]),
        ({"low": 4, "high": 12, "step": 4}, [4, 8, 12], [3, 6, 16, None, "a", True]),
        ({"low": 0.1, "high": 0.7, "step": 0.2}, [0.1, 0.3, 0.7], [0.2, 0.8]),
        ({"low": 1e-4, "high": 1e-1, "log": True}, [1e-4, 5e-4, 1e-1], [1e-5, 1]),
    ],
)
def test_only_what_could_be_drawn_is_in_a_space(entry, inside, outside):
    assert all(holds(entry, value) for value in inside)
    assert not any(holds(entry, value) for value in outside)


@pytest.fixture
def protocol():
    return Protocol("toy", None, synthetic_table(tiny_spec()), [1], base={"training": {"epochs": 9}})


def tuned(**options):
    return Tuned("options.yaml", options, {"metric": "mae", "trials": dict.fromkeys(options, 8)})


def test_tables_take_the_options_that_were_chosen(table, root, protocol):
    chosen = read_tuned(root / "out" / "options.yaml")
    protocol = dataclasses.replace(protocol, tuned=chosen)
    chosen.check(table1.variants(protocol), "frozen")
    plain = dataclasses.replace(protocol, tuned=None)
    for name, options in table1.variants(protocol).items():
        found = completed(protocol, options, name)
        if name in METHODS:
            assert complete(found) == complete({**chosen.options[name]}), name
            assert found["training"]["epochs"] == 2
        else:
            assert found == completed(plain, options), name
    assert protocol.folder == "toy-tuned"


def test_a_row_that_changes_a_part_has_the_options_of_the_whole(protocol):
    chosen = tuned(PaSE={"model": {"width": 16, "fusion": "attention"}}, concat={"training": {"epochs": 3}})
    protocol = dataclasses.replace(protocol, tuned=chosen)
    rows = {name: completed(protocol, options, name) for name, options in table3.variants(protocol).items()}
    assert rows["PaSE"]["model"] == {"name": "pase", "width": 16, "fusion": "attention"}
    assert rows["PaSE - PCL"]["model"] == {**rows["PaSE"]["model"], "calibration": False}
    assert rows["PaSE + Sum"]["model"] == {**rows["PaSE"]["model"], "fusion": "sum"}
    assert "width" not in rows["PaSE paper"]["model"], "the other version has another name"
    assert chosen.source("PaSE + agm") is None, "another balancing is another method"
    assert chosen.source("text alone") == chosen.source("concat on text+audio") == "concat"


def test_notes_say_what_was_chosen_and_how(protocol):
    chosen = tuned(concat={}, PaSE={})
    chosen.about["trials"]["PaSE"] = 7
    notes = chosen.notes(["concat", "PaSE", "PaSE - PCL", "tfn"], protocol.table)
    assert notes[0] == (
        "Options of concat, PaSE were chosen on the validation split by mae, 8 trials each (PaSE 7); they stand in "
        "`options.yaml`."
    )
    assert notes[1].endswith("the whole method: PaSE - PCL (of PaSE).")
    assert notes[2].endswith("standard options: tfn.")
    other = dataclasses.replace(chosen, about={"data": "another"})
    assert other.notes(["concat"], protocol.table)[-1].endswith("chosen on other data than these.")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tnf": {}}, "'tnf', which no table knows"),
        ({"ridge": {}}, "'ridge', which no table knows"),
        ({"tfn": {"model": {"name": "lmf"}}}, "the model 'lmf'"),
        ({"concat + agm": {"balancing": {"name": "sgm"}}}, "the balancing 'sgm'"),
        ({"tfn": {"text": {"frozen": False}}}, "--text fine-tuned"),
    ],
)
def test_chosen_options_that_fit_no_table_are_refused(options, words, tmp_path, capsys):
    (tmp_path / "options.yaml").write_text(yaml.safe_dump(options))
    out = tmp_path / "out"
    told = ["--tuned", str(tmp_path / "options.yaml"), "--out", str(out), "--runs", str(tmp_path / "runs")]
    assert main(["reproduce", "confidence", "--seeds", "1", *told]) == 2
    assert words in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("content", ["{}", "about: {trials: 3}", "tfn: 3", "[tfn]"])
def test_a_file_that_holds_no_options_by_method_is_refused(content, tmp_path):
    (tmp_path / "options.yaml").write_text(content)
    with pytest.raises(PaSEError, match=r"options\.yaml (was to hold options of a run by method|must hold a mapping)"):
        read_tuned(tmp_path / "options.yaml")

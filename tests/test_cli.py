"""The command line, in process: what it prints, writes and exits with."""

import errno
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import yaml

from pase_msa.cli import options
from pase_msa.cli.main import commands, main, parse
from pase_msa.errors import PaSEError
from tests.loading import packages, run_each

SMALL = ["--training.epochs", "2", "--training.threads", "1", "--model.width", "8", "--encoders.default.hidden", "8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data in the folder format: 60 utterances, audio absent in the first."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    labels = rng.integers(-3, 4, 60).astype(float)
    splits = ["train"] * 36 + ["valid"] * 12 + ["test"] * 12
    lines = ["id,video,split,sentiment"] + [f"u{i},v{i // 3},{splits[i]},{labels[i]}" for i in range(60)]
    (root / "utterances.csv").write_text("\n".join(lines) + "\n")
    np.save(root / "vision.npy", labels[:, None] + rng.normal(size=(60, 4)).astype(np.float32))
    np.save(root / "audio.npy", rng.normal(size=(118, 3)).astype(np.float32))
    np.save(root / "audio_lengths.npy", np.array([0] + [2] * 59))
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--data", str(folder), "--out", str(out), *SMALL]) == 0
    return out


def test_training_leaves_a_complete_run(run):
    names = {path.name for path in run.iterdir()}
    assert {"config.yaml", "data.json", "environment.json", "logs", "checkpoints", "model", "results.json"} <= names
    assert list(run.glob("logs/version_0/metrics.csv"))
    assert list(run.glob("logs/version_0/events.out.tfevents.*"))


def test_evaluation_prints_one_json_object_with_the_metrics_of_a_regression(run, capsys):
    assert main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    wanted = {"acc2_nonneg", "acc2_negpos", "f1_nonneg", "f1_negpos", "acc7", "mae", "corr"}
    assert wanted <= set(result["metrics"])
    assert set(result["subsets"]) == {"audio", "vision", "audio+vision"}
    assert (run / "report.html").is_file()


def test_evaluation_prints_tables(run, capsys):
    assert main(["evaluate", str(run)]) == 0
    assert "MAE" in capsys.readouterr().out


def test_prediction_prints_one_json_line_per_utterance(run, folder, capsys):
    assert main(["predict", str(run), "--data", str(folder), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["id"] for row in rows] == [f"u{i}" for i in range(60)]
    assert all(set(row["contributions"]) == {"audio", "vision"} and 0 <= row["confidence"] <= 1 for row in rows)
    assert rows[0]["contributions"]["audio"] == pytest.approx(0, abs=1e-6)


def test_prediction_writes_csv(run, folder, tmp_path, capsys):
    out = tmp_path / "predictions.csv"
    assert main(["predict", str(run), "--data", str(folder), "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "id,score,confidence,contribution_audio,contribution_vision"
    assert len(lines) == 61


def test_conversion_makes_a_table_that_gives_the_same_predictions(run, folder, tmp_path, capsys):
    assert main(["convert", str(folder), str(tmp_path / "table")]) == 0
    capsys.readouterr()
    main(["predict", str(run), "--data", str(folder)])
    expected = capsys.readouterr().out
    main(["predict", str(run), "--data", str(tmp_path / "table")])
    assert capsys.readouterr().out == expected


def test_a_label_shows_the_task(folder, capsys):
    assert main(["inspect", str(folder), "--label", "sentiment"]) == 0
    assert "task: regression of 'sentiment' from -3 to 3, over 7 ordered classes" in capsys.readouterr().out
    assert main(["inspect", str(folder), "--label", "sentiment", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"]["kind"] == "regression"
    assert main(["inspect", str(folder), "--label", "mood"]) == 2
    assert "sentiment" in capsys.readouterr().err


def test_several_labels_show_a_task_each(tmp_path, capsys):
    rows = [f"u{i},v{i % 5},train,{i % 7 - 3},{'ab'[i % 2]},words" for i in range(40)]
    (tmp_path / "utterances.csv").write_text("\n".join(["id,video,split,score,mood,text", *rows]) + "\n")
    assert main(["inspect", str(tmp_path), "--label", "score,mood"]) == 0
    printed = capsys.readouterr().out
    assert "task: regression of 'score'" in printed
    assert "task: classification of 'mood'" in printed
    assert main(["inspect", str(tmp_path), "--label", "score,mood", "--json"]) == 0
    assert [task["label"] for task in json.loads(capsys.readouterr().out)["tasks"]] == ["score", "mood"]


def test_inspection_lists_the_modalities(folder, capsys):
    assert main(["inspect", str(folder), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["modalities"]) == {"audio", "vision"}


def test_modalities_are_divided_by_commas(folder, tmp_path):
    assert main(["train", "--data", str(folder), "--out", str(tmp_path / "r"), "--modalities", "vision", *SMALL]) == 0
    assert yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())["modalities"] == ["vision"]


def test_training_says_what_a_reduced_system_lacks(folder, tmp_path, capsys):
    words = ["--data", str(folder), "--out", str(tmp_path / "r"), "--model", "smil", *SMALL]
    assert main(["train", *words]) == 0
    assert "smil is a reduced version of the published system (without the meta loop)\n" in capsys.readouterr().out


def test_the_configuration_may_stand_without_its_flag(folder, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        "model: {name: concat, width: 8}\nencoders: {default: {hidden: 8}}\ntraining: {epochs: 1, threads: 1}\n"
    )
    out = tmp_path / "r"
    assert main(["train", str(file), "--data", str(folder), "--out", str(out), "--model.width", "6"]) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["model"]["name"] == "concat"
    assert config["model"]["width"] == 6
    assert config["training"]["epochs"] == 1


def test_the_configuration_of_a_run_repeats_it(run, folder, tmp_path):
    out = tmp_path / "again"
    assert main(["train", str(run / "config.yaml"), "--out", str(out)]) == 0
    again, first = (json.loads((root / "results.json").read_text()) for root in (out, run))
    assert again["validation"] == first["validation"]


def test_classes_are_predicted_and_graded(tmp_path, capsys):
    rng = np.random.default_rng(1)
    numbers = rng.integers(0, 3, 60)
    names = np.array(["sad", "calm", "glad"])[numbers]
    splits = ["train"] * 36 + ["valid"] * 12 + ["test"] * 12
    root = tmp_path / "data"
    root.mkdir()
    lines = ["id,video,split,emotion"] + [f"u{i},u{i},{splits[i]},{names[i]}" for i in range(60)]
    (root / "utterances.csv").write_text("\n".join(lines) + "\n")
    np.save(root / "audio.npy", (np.eye(3)[numbers] + rng.normal(0, 0.2, (60, 3))).astype(np.float32))
    out = str(tmp_path / "r")
    assert main(["train", "--data", str(root), "--out", out, *SMALL]) == 0
    capsys.readouterr()
    assert main(["evaluate", out, "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert {"accuracy", "f1_weighted", "ua", "per_class"} <= set(metrics)
    assert main(["predict", out, "--data", str(root), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["label"] in {"sad", "calm", "glad"}


@pytest.mark.parametrize(
    ("words", "model", "method"),
    [
        ([], "pase", "held_out"),
        (["--balancing", "held_out", "--balancing.exploration", "0.2"], "pase", "held_out"),
        (["--balancing", "sgm", "--balancing.utility", "prediction"], "pase", "sgm"),
        (["--balancing=sgm"], "pase", "sgm"),
        (["--balancing.name", "sgm"], "pase", "sgm"),
        (["--balancing", "sgm", "--balancing", "held_out"], "pase", "held_out"),
        (["--model.name", "concat"], "concat", "none"),
        (["--model", "concat", "--balancing", "held_out"], "concat", "held_out"),
        (["--config", "sgm.yaml"], "pase", "sgm"),
        (["--config", "sgm.yaml", "--balancing", "held_out"], "pase", "held_out"),
        (["--config", "sgm.yaml", "--config", "held.yaml"], "concat", "held_out"),
        (["sgm.yaml", "--balancing.floor", "0.1"], "pase", "sgm"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_one_switch_names_the_balancing_method(words, model, method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sgm.yaml").write_text("balancing: sgm\n")
    (tmp_path / "held.yaml").write_text("balancing: {name: held_out}\nmodel: concat\n")
    options = parse(["train", *words]).arguments
    assert (options["model"]["name"], options["balancing"]["name"]) == (model, method)


def test_the_balancing_method_is_saved_with_the_run(folder, tmp_path):
    out = tmp_path / "r"
    words = ["--balancing", "sgm", "--training.epochs", "1", "--training.threads", "1", "--model.width", "8"]
    assert main(["train", "--data", str(folder), "--out", str(out), *words]) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["balancing"]["name"] == "sgm"
    assert main(["train", str(out / "config.yaml"), "--out", str(tmp_path / "again")]) == 0


def test_an_excluded_modality_is_named_at_the_end_of_training(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = rng.integers(-3, 4, 280).astype(float)
    splits = np.array(["train"] * 160 + ["valid"] * 80 + ["test"] * 40)
    root, out = tmp_path / "data", tmp_path / "r"
    root.mkdir()
    lines = ["id,video,split,sentiment"] + [f"u{i},v{i // 4},{splits[i]},{labels[i]}" for i in range(280)]
    (root / "utterances.csv").write_text("\n".join(lines) + "\n")
    np.save(root / "audio.npy", labels[:, None] + rng.normal(size=(280, 3)).astype(np.float32))
    seen = np.where(splits == "train", labels, rng.permutation(labels))
    np.save(root / "vision.npy", seen[:, None] + 0.5 * rng.normal(size=(280, 3)).astype(np.float32))
    assert main(["train", "--data", str(root), "--out", str(out), *SMALL]) == 0
    assert "vision: deceptive, excluded" in capsys.readouterr().out.splitlines()
    assert main(["evaluate", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "vision │ deceptive" in printed
    assert "excluded: no prediction uses it" in printed
    assert main(["evaluate", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["modality_report"]
    assert report == json.loads((out / "results.json").read_text())["modality_report"]
    assert report["modalities"]["vision"]["prediction_weight"] == 0


def test_diagnosis_prints_a_table(folder, capsys):
    assert main(["diagnose", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "36 utterances of 12 videos" in text
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert {"audio", "vision"} <= set(rows)


def test_diagnosis_prints_one_json_object_and_draws(folder, tmp_path, capsys):
    file = tmp_path / "pictures" / "diagnosis.svg"
    words = ["diagnose", "--data", str(folder), "--modalities", "vision", "--label", "sentiment", "--seed", "3"]
    assert main([*words, "--kind", "regression", "--json", "--picture", str(file)]) == 0
    diagnosis = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert list(diagnosis["modalities"]) == ["vision"]
    assert diagnosis["counts"]["validation_videos"] == 4
    assert [path.name for path in file.parent.iterdir()] == ["diagnosis.svg"]
    assert file.read_text().startswith("<?xml")


def test_diagnosis_without_data_names_the_benchmark(capsys):
    assert main(["diagnose", "--modalities", "vision"]) == 0
    assert capsys.readouterr().out.startswith("The bundled synthetic benchmark")


def _mistakes(run, folder, tmp_path):
    (tmp_path / "bad.yaml").write_text("model: {widht: 3}\n")
    (tmp_path / "old.yaml").write_text("modulation: {name: sgm}\n")
    (tmp_path / "broken.yaml").write_text("model: [\n")
    return {
        "no such file": (["inspect", str(tmp_path / "nowhere")], "nowhere"),
        "no configuration": (["train", str(tmp_path / "none.yaml")], "none.yaml"),
        "unknown option": (["train", "--training.epoch", "3"], "epoch"),
        "unknown option in a file": (["train", str(tmp_path / "bad.yaml")], "widht"),
        "broken file": (["train", str(tmp_path / "broken.yaml")], "broken.yaml"),
        "wrong type": (["train", "--training.epochs", "many"], "many"),
        "out of range": (["train", "--training.epochs", "0"], "epochs"),
        "unknown model": (["train", "--model.name", "pas"], "did you mean 'pase'"),
        "unknown modality": (["train", "--data", str(folder), "--modalities", "vision,smell"], "smell"),
        "unknown label": (["train", "--data", str(folder), "--label", "mood"], "sentiment"),
        "unknown encoder": (["train", "--data", str(folder), "--encoders.audio.encoder", "x"], "sequence"),
        "unknown encoder option": (["train", "--data", str(folder), "--encoders.audio.hiden", "3"], "hidden"),
        "finished run": (["train", "--data", str(folder), "--out", str(run), *SMALL], "finished"),
        "no run": (["evaluate", str(folder)], "no run"),
        "no model": (["predict", str(folder), "--data", str(folder)], "saved model"),
        "no data": (["predict", str(run)], "--data"),
        "table exists": (["convert", str(folder), str(run.parent / "table")], "already"),
        "no command": ([], "train"),
        "unknown metric": (["train", "--data", str(folder), "--training.monitor", "mea"], "mae"),
        "no data to diagnose": (["diagnose", str(tmp_path / "nowhere")], "nowhere"),
        "unknown modality to diagnose": (["diagnose", str(folder), "--modalities", "vision,smell"], "smell"),
        "unknown label to diagnose": (["diagnose", str(folder), "--label", "mood"], "sentiment"),
        "unknown kind to diagnose": (["diagnose", str(folder), "--kind", "guess"], "guess"),
        "a negative seed": (["diagnose", str(folder), "--seed", "-1"], "seed"),
        "no picture format": (["diagnose", str(folder), "--picture", str(tmp_path / "out")], ".png"),
        "nothing to validate on": (["diagnose", str(_without_validation(tmp_path))], "validation"),
        "unknown balancing method": (["train", "--data", str(folder), "--balancing", "heldout"], "held_out"),
        "an option of the first version": (["train", "--data", str(folder), "--equilibrium", "paper"], "--balancing"),
        "a key of the first version": (["train", str(tmp_path / "old.yaml")], "balancing"),
        "nothing to grade by": (
            ["train", "--data", str(folder), "--model", "concat", "--balancing", "sgm"],
            "no alignment losses",
        ),
        "unknown accelerator": (["train", "--data", str(folder), "--training.accelerator", "abacus"], "abacus"),
    }


def _without_validation(tmp_path):
    root = tmp_path / "no validation"
    root.mkdir()
    lines = ["id,video,split,sentiment"] + [f"u{i},u{i},{'test' if i > 5 else 'train'},{i % 3}" for i in range(9)]
    (root / "utterances.csv").write_text("\n".join(lines) + "\n")
    np.save(root / "audio.npy", np.ones((9, 2), dtype=np.float32))
    return root


@pytest.mark.parametrize("case", range(31))
def test_a_mistake_is_one_sentence_and_status_2(case, run, folder, tmp_path, capsys):
    if not (run.parent / "table").exists():
        main(["convert", str(folder), str(run.parent / "table")])
    words, named = list(_mistakes(run, folder, tmp_path).values())[case]
    if words[:1] == ["train"] and "--out" not in words:
        words = [*words, "--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pase: ")
    assert printed.err.count("\n") == 1
    assert named in printed.err
    assert "Traceback" not in printed.err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_sentence(folder, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "table.parquet")

    monkeypatch.setattr("pase_msa.training.run.train", full)
    assert main(["train", "--data", str(folder)]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the disk is full" in printed
    assert "table.parquet" in printed


def test_every_configuration_that_is_shipped_parses():
    from pathlib import Path

    files = [
        f
        for f in sorted(Path("experiments").glob("*.yaml"))
        if not {"variants", "space"} & set(yaml.safe_load(f.read_text()))
    ]
    assert files
    for file in files:
        assert parse(["train", "--config", str(file)]).command == "train"


def test_the_configuration_can_be_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "--model.mu", "0.3", "--print-config"])
    assert caught.value.code in (0, None)
    assert yaml.safe_load(capsys.readouterr().out)["model"]["mu"] == 0.3


NAMES = [
    *("adapt", "ask", "card", "compare", "convert", "demo", "diagnose", "doctor", "evaluate", "export", "extract"),
    *("inspect", "listen", "predict", "report", "reproduce", "serve", "study", "sweep", "train"),
]
TRAINING = {"torch", "lightning", "torchmetrics", "safetensors", "scipy", "sklearn", "joblib"}
TRAINING |= {"datasets", "pandas", "pyarrow", "requests", "transformers", "matplotlib", "rich"}
#: command -> packages that its `--help` may load beside jsonargparse
HELP_LOADS = {
    **{name: set() for name in NAMES},
    # options of both are those of modules and callbacks of PyTorch and Lightning
    "train": TRAINING,
    "adapt": TRAINING,
}


def test_every_file_is_a_command():
    assert list(commands()) == NAMES


def test_pase_itself_loads_nothing():
    code = "from pase_msa.cli.main import main; main(['{}'])"
    for _, (modules, printed) in run_each({word: code.format(word) for word in ("--help", "--version")}).items():
        assert packages(modules) == set()
        assert "argparse" not in printed
        assert printed.startswith(("usage: pase COMMAND", "pase 0."))


def test_the_help_of_a_command_loads_its_parser_only():
    codes = {name: f"from pase_msa.cli.main import main; main(['{name}', '--help'])" for name in NAMES}
    for name, (modules, printed) in run_each(codes).items():
        assert packages(modules) - {"jsonargparse"} <= HELP_LOADS[name], name
        assert {f"pase_msa.cli.{other}" for other in NAMES if other != name} & modules == set()
        assert printed.startswith(f"usage: pase {name} ")
        assert "<" not in printed, "a Python object in place of words"
        assert not [option for option in re.findall(r"^  (--\S+)", printed, re.M) if "_" in option], name


@pytest.mark.parametrize("name", NAMES)
def test_a_command_describes_every_option(name):
    function = commands()[name]
    described = options.helps(function)
    assert list(described) == list(inspect.signature(function).parameters)
    assert options.summary(function).endswith(".")


def test_the_package_is_the_command():
    for words, start in ((["--version"], "pase 0."), (["--help"], "usage: pase")):
        done = subprocess.run([sys.executable, "-m", "pase_msa", *words], capture_output=True, text=True, timeout=60)
        assert done.stdout.startswith(start)


@pytest.mark.parametrize(
    "words",
    [
        ["--only", "a,b", "--only", "c"],
        ["--only=a", "--only=b", "--only=c"],
        ["--only", "[a, b, c]"],
        ["--only", '["a", "b", "c"]'],
    ],
    ids=" ".join,
)
def test_a_list_is_divided_by_commas_or_repeated(words):
    assert parse(["study", "s.yaml", *words]).arguments["only"] == ["a", "b", "c"]


def test_a_list_may_be_longer_than_the_name_of_a_file():
    names = [f"method{number}" for number in range(1000)]
    assert parse(["study", "s.yaml", "--only", ",".join(names)]).arguments["only"] == names


def test_the_name_of_a_file_is_not_divided_at_a_comma(tmp_path):
    (tmp_path / "a,b").mkdir()
    folders = [str(tmp_path / "a,b"), "c"]
    assert parse(["study", "s.yaml", "--data", folders[0], "--data", "c"]).arguments["data"] == folders


def test_paths_follow_an_option_as_a_shell_writes_them():
    arguments = parse(["compare", "a1", "a2", "--against", "b1", "b2", "--json"]).arguments
    assert [str(path) for path in arguments["runs"] + arguments["against"]] == ["a1", "a2", "b1", "b2"]
    assert arguments["json"] is True


def test_dashes_and_underscores_are_the_same():
    for word in ("--training.learning-rate", "--training.learning_rate"):
        assert parse(["train", word, "0.1"]).arguments["training"]["learning_rate"] == 0.1
    for word in ("--max-tokens", "--max_tokens"):
        assert parse(["ask", "data", word, "7"]).arguments["max_tokens"] == 7
    encoders = parse(["train", "--encoders.my-audio.layer-norm", "true"]).arguments["encoders"]
    assert encoders == {"my-audio": {"layer_norm": True}}


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["pradict"], "did you mean 'predict'"),
        (["predict", "run", "--whithout", "audio"], "did you mean --without?"),
        (["train", "--training.learning-rat", "1"], "did you mean --training.learning-rate?"),
        (["train", "--balancng", "sgm"], "did you mean --balancing?"),
        (["train", "--balancing.nam", "sgm"], "did you mean --balancing.name?"),
        (["train", "--balancing.alpha", "1"], "has no option --balancing.alpha; see `pase train --help`"),
        (["train", "--training.learning_rate", "nan"], "a number was wanted, found nan; give one"),
        (["inspect", "a", "b"], "does not take 'b'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_nearest_right_spelling_is_given(words, nearest):
    with pytest.raises(PaSEError, match=re.escape(nearest)):
        parse(words)


def test_a_missing_package_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr("pase_msa.optional.find_spec", lambda name: None)
    assert main(["demo", "run"]) == 2
    printed = capsys.readouterr().err
    assert "needs the packages gradio, fastapi, uvicorn" in printed
    assert "pip install 'pase-msa[demo]'" in printed

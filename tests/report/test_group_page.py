"""The page of several runs: groups of seeds, compared on the same test utterances."""

import re
import shutil

import pytest

from pase_msa.cli.main import main
from pase_msa.errors import PaSEError
from pase_msa.report.group_page import grouped, write_group_report


def test_runs_that_differ_by_seed_are_one_group(evaluated):
    found = grouped([*evaluated["concat"], *evaluated["PaSE"]])
    assert [(group.name, sorted(group.runs)) for group in found] == [
        ("concat", [1, 2]),
        ("PaSE", [1, 2]),
    ]


def test_the_report_holds_everything_itself(evaluated, tmp_path, capsys):
    runs = [*evaluated["concat"], *evaluated["PaSE"], *evaluated["PaSE_paper"]]
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "<script" not in text
    assert not re.search(r"(src|href|srcset)=\"(?!data:)", text)
    for words in ("concat", "p (Holm)", "data:image/png;base64,", "Protocol", "Environment", "Synthetic data"):
        assert words in text
    group = next(group for group in grouped(runs) if group.name == "concat")
    found = group.estimate("mae")
    assert f"{found.mean:.3f} ± {found.sd:.3f}" in text
    assert "model.name" in text, "options in which the groups differ"


def test_a_report_refuses_what_cannot_be_compared(evaluated, tmp_path):
    with pytest.raises(PaSEError, match="one run folder or more"):
        write_group_report([], tmp_path / "r.html")
    one = evaluated["concat"][0]
    twin = tmp_path / "twin"
    shutil.copytree(one, twin)
    with pytest.raises(PaSEError, match="one configuration and seed"):
        write_group_report([one, twin], tmp_path / "r.html")
    other = (twin / "evaluation.json").read_text().replace('"convention": "mmsa"', '"convention": "mult"')
    (twin / "evaluation.json").write_text(other)
    with pytest.raises(PaSEError, match="different data, tasks or conventions"):
        write_group_report([one, twin], tmp_path / "r.html")
    (twin / "evaluation.json").unlink()
    with pytest.raises(PaSEError, match="not evaluated yet"):
        write_group_report([twin], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()

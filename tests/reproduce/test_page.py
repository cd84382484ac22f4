"""The pages of results, which keep what was written by hand; and the report of several runs."""

import re
import shutil

import pytest

from pase_msa.cli.main import main
from pase_msa.errors import PaSEError
from pase_msa.report.group_page import grouped, write_group_report
from pase_msa.reproduce.page import write_page


@pytest.fixture
def results(made, tmp_path):
    """A copy of the results that one test may change."""
    shutil.copytree(made.out, tmp_path / "results" / "mosi_toy")
    return tmp_path / "results"


def test_the_pages_show_all_results_with_their_figures(results, tmp_path):
    index = write_page(tmp_path / "docs" / "results", results)
    assert "[mosi_toy](mosi_toy.md) | Table 3, Table 4" in index.read_text()
    page = index.parent / "mosi_toy.md"
    text = page.read_text()
    titles = re.findall(r"^## (.*)$", text, re.M)
    assert [title.split(":")[0] for title in titles[:2]] == ["Table 3", "Table 4"]
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert sum(target.endswith(".png") for target in targets) >= 10
    assert all((page.parent / target).is_file() for target in targets)


def test_a_page_has_one_table_and_links_to_the_others(results, tmp_path):
    text = (write_page(tmp_path / "docs" / "results", results).parent / "mosi_toy.md").read_text()
    assert len(re.findall(r"^\| --- \|", text, re.M)) == 1
    heading = next(line for line in text.splitlines() if line.startswith("| method"))
    assert "interval" not in heading
    assert "MAE" in heading
    for file in results.glob("mosi_toy/*.md"):
        for numbers in re.findall(r"^Numbers: `(.*)`", file.read_text(), re.M):
            assert f"mosi_toy/{numbers})" in text


def test_words_by_hand_are_kept_when_the_pages_are_made_anew(results, tmp_path):
    page = write_page(tmp_path, results).parent / "mosi_toy.md"
    fresh = page.read_text()
    mine = "<!-- words: mosi_toy/table3 -->\nWhat we learned.\n\nAnd more.\n<!-- end of words -->"
    page.write_text(fresh.replace("<!-- words: mosi_toy/table3 -->\n\n<!-- end of words -->", mine))
    assert mine in page.read_text()
    write_page(tmp_path, results)
    again = page.read_text()
    assert again == fresh.replace("<!-- words: mosi_toy/table3 -->\n\n<!-- end of words -->", mine)
    # the table goes, the words stay
    (results / "mosi_toy" / "table3.md").unlink()
    write_page(tmp_path, results)
    assert mine in page.read_text()


def test_a_page_without_results_is_refused(tmp_path):
    with pytest.raises(PaSEError, match="no results"):
        write_page(tmp_path / "pages", tmp_path / "nothing")


def runs_of(made, name):
    return sorted(made.runs.glob(f"runs/{name}-mosi_toy-seed*"))


def test_runs_that_differ_by_seed_are_one_group(made):
    found = grouped([*runs_of(made, "concat"), *runs_of(made, "PaSE")])
    assert [(group.name, sorted(group.runs)) for group in found] == [
        ("concat-mosi_toy", [1, 2]),
        ("PaSE-mosi_toy", [1, 2]),
    ]


def test_the_report_holds_everything_itself(made, tmp_path, capsys):
    runs = [*runs_of(made, "concat"), *runs_of(made, "PaSE"), *runs_of(made, "PaSE_paper")]
    assert main(["report", *map(str, runs), "--out", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "<script" not in text
    assert not re.search(r"(src|href|srcset)=\"(?!data:)", text)
    for words in ("concat-mosi_toy", "p (Holm)", "data:image/png;base64,", "Protocol", "Environment", "Synthetic data"):
        assert words in text
    group = next(group for group in grouped(runs) if group.name == "concat-mosi_toy")
    found = group.estimate("mae")
    assert f"{found.mean:.3f} ± {found.sd:.3f}" in text
    assert "model.name" in text, "options in which the groups differ"


def test_a_report_refuses_what_cannot_be_compared(made, tmp_path):
    with pytest.raises(PaSEError, match="one run folder or more"):
        write_group_report([], tmp_path / "r.html")
    one = runs_of(made, "concat")[0]
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

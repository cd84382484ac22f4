"""The page of all results, which keeps the paragraphs written by hand."""

import re
import shutil

import pytest

from pase_msa.errors import PaSEError
from pase_msa.paper.page import write_page

pytestmark = pytest.mark.slow


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

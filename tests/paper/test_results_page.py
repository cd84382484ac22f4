"""The page of all results, which keeps the paragraphs written by hand."""

import re
import shutil

import pytest

from pase_msa.errors import PaSEError
from pase_msa.paper.page import write_page


@pytest.fixture
def results(made, tmp_path):
    """A copy of the results that one test may change."""
    shutil.copytree(made.out, tmp_path / "results" / "mosi_toy")
    return tmp_path / "results"


def test_the_page_shows_all_results_with_their_figures(results, tmp_path):
    page = write_page(tmp_path / "docs" / "results.md", results)
    text = page.read_text()
    titles = re.findall(r"^### (.*)$", text, re.M)
    assert [title.split(":")[0] for title in titles[:2]] == ["Table 3", "Table 4"]
    pictures = re.findall(r"\]\((img/results/[^)]+)\)", text)
    assert len(pictures) >= 10
    assert all((page.parent / picture).is_file() for picture in pictures)


def test_words_by_hand_are_kept_when_the_page_is_made_anew(results, tmp_path):
    page = write_page(tmp_path / "results.md", results)
    fresh = page.read_text()
    mine = "<!-- words: mosi_toy/table3 -->\nWhat we learned.\n\nAnd more.\n<!-- end of words -->"
    page.write_text(fresh.replace("<!-- words: mosi_toy/table3 -->\n\n<!-- end of words -->", mine))
    assert mine in page.read_text()
    write_page(page, results)
    again = page.read_text()
    assert again == fresh.replace("<!-- words: mosi_toy/table3 -->\n\n<!-- end of words -->", mine)
    # the table goes, the words stay
    (results / "mosi_toy" / "table3.md").unlink()
    assert mine in write_page(page, results).read_text()


def test_a_page_without_results_is_refused(tmp_path):
    with pytest.raises(PaSEError, match="no results"):
        write_page(tmp_path / "page.md", tmp_path / "nothing")

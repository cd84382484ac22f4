"""CSV files as people and spreadsheets write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pase_msa.data import open_table
from pase_msa.data.cells import is_number, read_csv
from pase_msa.errors import PaSEError
from pase_msa.media.manifest import read_clips

HEAD = "id,split,text,sentiment\n"


def written(tmp_path, content, name="data.csv", encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
    return path


def refused(path):
    with pytest.raises(PaSEError) as error:
        open_table(path)
    return str(error.value)


def test_cells_beyond_the_header_are_refused_by_their_line(tmp_path):
    sentence = refused(written(tmp_path, HEAD + "a,train,I love it,2\nb,train,well, I love it,2\n"))
    assert "line 3: 5 cells, but the header names 4 columns" in sentence


def test_trailing_commas_of_a_spreadsheet_are_no_cells(tmp_path):
    table = open_table(written(tmp_path, "id,split,text,sentiment,,\na,train,yes,2,,\nb,test,no,-1,,\n,,,,,\n"))
    assert table.labels("sentiment") == [2.0, -1.0]


@pytest.mark.parametrize(
    "header", ["id, split, text, sentiment", " ID ,Split,TEXT,sentiment", '"id","split","text","sentiment"']
)
def test_headers_have_their_blanks_and_capitals_taken_off(header, tmp_path):
    table = open_table(written(tmp_path, f"{header}\na, train, hi, 2\n"))
    assert (table.texts, table.labels("sentiment"), table.splits.tolist()) == (["hi"], [2.0], ["train"])


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_dividing_characters_are_seen(mark, tmp_path):
    content = f'id{mark}split{mark}text{mark}sentiment\na{mark}train{mark}"well{mark} yes, and"{mark}2\n'
    assert open_table(written(tmp_path, content)).texts == [f"well{mark} yes, and"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(encoding, tmp_path):
    assert open_table(written(tmp_path, HEAD + "a,train,Grüße,2\n", encoding=encoding)).texts == ["Grüße"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((HEAD + "a,train,Gr\xfc\xdfe,2\n").encode("latin-1"), "line 2: the file is not in UTF-8"),
        (HEAD.encode() + b"a,train,\0,2\n", "zero bytes"),
        (HEAD + 'a,train,"I said,2\nb,train,no,1\n', "line 2: a quote does not end"),
        (HEAD + 'a,train,"so" he said,2\n', "line 2: a quote"),
        ("id,split,text,text\na,train,x,y\n", "two columns called 'text'"),
        ("id,,text\na,b,c\n", "column 2 holds values but has no name"),
        (HEAD, "no rows"),
        ("", "is empty"),
        (HEAD + ",train,x,2\n", "line 2: the id is empty"),
        (HEAD + "a,train,x,2\na,train,y,1\n", "'a' stands there twice"),
    ],
)
def test_what_cannot_be_read_is_one_sentence_with_the_line(content, words, tmp_path):
    assert words in refused(written(tmp_path, content))


def test_row_numbers_that_pandas_writes_are_no_label(tmp_path):
    table = open_table(written(tmp_path, ",id,split,text,sentiment\n0,a,train,x,2\n1,b,test,y,1\n"))
    assert list(table.schema.labels) == ["sentiment"]
    assert table.meta["roles"]["left over"] == ["a first column of row numbers"]


def test_row_numbers_that_pandas_read_and_wrote_again_are_no_label(tmp_path):
    table = open_table(written(tmp_path, "Unnamed: 0,id,split,text\n0,a,train,yes\n1,b,test,no\n"))
    assert list(table.schema.labels) == []


@pytest.mark.parametrize(
    "unknown", ["", " ", "NA", "N/A", "nan", "NaN", "null", "None", "-", "?", "#N/A", "<NA>", "unknown"]
)
@pytest.mark.parametrize("values", [np.arange(1, 6), np.linspace(-3, 3, 11)], ids=["stars", "scores"])
def test_an_unknown_value_leaves_a_column_of_numbers_real(unknown, values, tmp_path):
    rows = "".join(f"u{i},train,x,{value}\n" for i, value in enumerate(values))
    table = open_table(written(tmp_path, f"{HEAD}{rows}last,train,x,{unknown}\n"))
    assert table.schema.labels == {"sentiment": "real"}
    assert table.labels("sentiment")[-1] is None


@pytest.mark.parametrize("odd", ["good", "2 stars", "1,5", "1_000", "50%", "0x10", "1.2.3"])
def test_one_cell_that_is_no_number_is_named_and_turns_nothing_into_classes(odd, tmp_path):
    rows = "".join(f"u{i},train,x,{i / 2}\n" for i in range(20))
    sentence = refused(written(tmp_path, f'{HEAD}{rows}last,train,x,"{odd}"\n'))
    assert f"line 22: sentiment is {odd!r}" in sentence


def test_decimal_commas_are_named(tmp_path):
    rows = "".join(f"u{i};train;x;{i},5\n" for i in range(5))
    assert "decimal comma" in refused(written(tmp_path, HEAD.replace(",", ";") + rows))


def test_one_odd_cell_of_three_is_named(tmp_path):
    assert "'50%'" in refused(written(tmp_path, HEAD + "a,train,x,1\nb,train,x,50%\nc,train,x,2\n"))


def test_a_file_with_neither_text_nor_features_says_what_to_call_the_column(tmp_path):
    sentence = refused(written(tmp_path, "review,sentiment\nI liked it a lot,good\nI did not,bad\n"))
    assert "if 'review' holds the transcripts, call it 'text'" in sentence


def test_a_line_that_names_the_dividing_character_is_no_header(tmp_path):
    assert open_table(written(tmp_path, "sep=;\nid;split;text\na;train;yes\n")).texts == ["yes"]


@pytest.mark.parametrize("nothing", ["NA", "nan", "N/A", "None", "", "-"])
def test_a_text_that_is_not_there_is_none(nothing, tmp_path):
    assert open_table(written(tmp_path, f"id,text\na,{nothing}\nb,yes\n")).texts == [None, "yes"]


def test_words_stay_classes(tmp_path):
    table = open_table(written(tmp_path, HEAD + "a,train,x,good\nb,train,y,bad\nc,train,z,NA\n"))
    assert table.schema.labels == {"sentiment": "class"}
    assert table.labels("sentiment") == ["good", "bad", None]


def test_a_text_of_several_lines_counts_them(tmp_path):
    sentence = refused(written(tmp_path, HEAD + 'a,train,"one\ntwo",2\nb,train,x,2,3\n'))
    assert "line 4" in sentence


def test_without_ids_the_rows_are_numbered(tmp_path):
    table = open_table(written(tmp_path, "text,label\nyes,good\nno,bad\n"))
    assert table.ids == ["0", "1"]
    assert any("numbered" in note for note in table.meta["notes"])


def test_a_manifest_is_read_alike(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    items, _ = read_clips(written(tmp_path, " Path ; Sentiment\na.wav ; NA\n"))
    assert (items[0].written, items[0].labels) == ("a.wav", {"Sentiment": None})
    with pytest.raises(PaSEError, match="line 2: 3 cells"):
        read_clips(written(tmp_path, "path,sentiment\na.wav,1,2\n"))


@given(st.floats(allow_nan=False))
def test_every_number_that_python_writes_is_a_number(value):
    assert is_number(repr(value))


printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12)


@given(st.lists(st.tuples(printable, printable), min_size=1, max_size=6))
def test_what_the_csv_module_writes_is_read_back(rows):
    import csv
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerows([("first", "second"), *rows])
        expected = [(a.strip(), b.strip()) for a, b in rows if a.strip() or b.strip()]
        if not expected:
            return
        assert [(row.cells["first"], row.cells["second"]) for row in read_csv(path).rows] == expected

"""Files are written whole or not at all, and JSON is read by every reader."""

import json
import math
import re

import pytest

from pase_msa.errors import PaSEError
from pase_msa.files import read_json, read_yaml, replacing, strict_json, write_json, write_text


def test_a_file_is_replaced_in_one_step(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with replacing(target) as partial:
        partial.write_text("new")
        assert re.fullmatch(r"\.a\.txt\..+-\d+-[0-9a-f]+\.partial", partial.name)
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, unique):
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def write():
        with replacing(target, unique=unique) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_two_writers_of_one_file_do_not_share_a_name(tmp_path):
    target = tmp_path / "a.txt"
    with replacing(target, unique=True) as one, replacing(target, unique=True) as two:
        assert one != two
        one.write_text("one")
        two.write_text("two")
    assert target.read_text() == "one"  # the block that ends last


def test_text_is_utf_8_with_its_own_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "café\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == b"caf\xc3\xa9\r\n\n"


def test_json_comes_back_and_damage_is_one_sentence(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, None, "é"]})
    assert read_json(tmp_path / "a.json") == {"x": [1, None, "é"]}
    (tmp_path / "a.json").write_text('{"x"')
    with pytest.raises(PaSEError, match=r"a\.json is damaged \(Expecting .*\); restore it or write it again\.$"):
        read_json(tmp_path / "a.json")
    with pytest.raises(PaSEError, match=r"a\.json is damaged \(Expecting .*\); evaluate again\.$"):
        read_json(tmp_path / "a.json", remedy="evaluate again")
    with pytest.raises(PaSEError, match="cannot be read"):
        read_json(tmp_path / "none.json")


def test_strict_json_has_null_for_what_is_no_number():
    content = {"a": math.nan, "b": [math.inf, (1.5, -math.inf)], "c": {"d": True}}
    assert json.loads(strict_json(content)) == {"a": None, "b": [None, [1.5, None]], "c": {"d": True}}


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{b: " * 5_000, "- " * 200 + "x"])
def test_a_deeply_nested_yaml_file_is_refused_at_once(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(PaSEError, match=r"config\.yaml is damaged \(it is nested more than 100 levels deep\); restore"):
        read_yaml(tmp_path / "config.yaml")

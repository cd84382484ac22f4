"""Timelines: what is written is read by other readers, and what others have written gives segments."""

import dataclasses
import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pase_msa import PaSEError
from pase_msa.media.manifest import read_clips
from pase_msa.media.timelines.base import Caption, Interval, Segment, Tier, Timeline, tiers, without_overlap
from pase_msa.media.timelines.files import endings, is_timeline, read_segments, write_timeline

pytest.importorskip("pympi", reason="the extra `media` is not installed")
pytest.importorskip("praatio", reason="the extra `media` is not installed")
pytest.importorskip("webvtt", reason="the extra `media` is not installed")

ODD = 'said "<so>" & {left}'
TIERS = [
    Tier("transcript@Ann", "Ann", [Interval(0.5, 1.25, "Hello."), Interval(2.0, 3.5, ODD)]),
    Tier("score@Ann", "Ann", [Interval(0.5, 1.25, "+0.500"), Interval(2.0, 3.5, "-1.250")]),
    Tier("transcript", None, [Interval(1.25, 2.0, "Grüße")]),
]
CAPTIONS = [
    Caption(0.5, 1.25, "Hello.", "score +0.50 (confidence 80%): text +0.50", "Ann"),
    Caption(1.25, 2.0, "Grüße", "score -0.10 (confidence 52%): text -0.10"),
    Caption(3661.0, 3662.002, ODD, "score -1.25 (confidence 91%): text -1.25", "Ann"),
]
SAID = [Segment(0.5, 1.25, "Hello.", "Ann"), Segment(1.25, 2.0, "Grüße", None), Segment(2.0, 3.5, ODD, "Ann")]


@pytest.fixture
def timeline(tmp_path):
    (tmp_path / "a clip.mp4").touch()
    return Timeline(tmp_path / "a clip.mp4", 4.0, TIERS, CAPTIONS)


def read_eaf(path):
    """The content of an EAF file as its schema has it."""
    root = ElementTree.parse(path).getroot()
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE")) for slot in root.findall("TIME_ORDER/TIME_SLOT")}
    kinds = {kind.get("LINGUISTIC_TYPE_ID") for kind in root.findall("LINGUISTIC_TYPE")}
    found = {}
    for tier in root.findall("TIER"):
        assert tier.get("LINGUISTIC_TYPE_REF") in kinds
        found[tier.get("TIER_ID"), tier.get("PARTICIPANT")] = [
            (
                slots[item.get("TIME_SLOT_REF1")],
                slots[item.get("TIME_SLOT_REF2")],
                item.findtext("ANNOTATION_VALUE"),
            )
            for item in tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION")
        ]
    return root, found


def test_elan_reads_tiers_with_participants_and_finds_the_recording(timeline, tmp_path):
    write_timeline(tmp_path / "out" / "a.eaf", timeline)
    root, found = read_eaf(tmp_path / "out" / "a.eaf")
    assert found == {
        (tier.name, tier.speaker): [(1000 * i.start, 1000 * i.end, i.text) for i in tier.intervals] for tier in TIERS
    }
    assert [child.tag for child in root][:2] == ["HEADER", "TIME_ORDER"]
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    assert media.get("MEDIA_URL") == (tmp_path / "a clip.mp4").resolve().as_uri()
    assert (tmp_path / "out" / media.get("RELATIVE_MEDIA_URL")).resolve() == (tmp_path / "a clip.mp4").resolve()
    assert media.get("MIME_TYPE") == "video/mp4"
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.eaf"]


def test_praat_reads_tiers_whose_gaps_are_filled(timeline, tmp_path):
    write_timeline(tmp_path / "a.TextGrid", timeline)
    text = (tmp_path / "a.TextGrid").read_text(encoding="utf-8")
    assert text.startswith('File type = "ooTextFile"\nObject class = "TextGrid"\n')
    for part, tier in zip(re.split(r"item \[\d+\]:", text)[1:], TIERS, strict=True):
        assert re.search(r'name = "(.*)"', part)[1] == tier.name
        whole = [float(number) for number in re.findall(r"^ {8}xm(?:in|ax) = ([\d.]+)", part, re.M)]
        assert whole == [0.0, 4.0]
        rows = re.findall(r'intervals \[\d+\]:\s+xmin = ([\d.]+)\s+xmax = ([\d.]+)\s+text = "(.*?)"\s*\n', part)
        edges = [(float(start), float(end)) for start, end, _ in rows]
        assert (edges[0][0], edges[-1][1]) == (0.0, 4.0)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
        written = [Interval(*edge, row[2].replace('""', '"')) for edge, row in zip(edges, rows, strict=True) if row[2]]
        assert written == tier.intervals


def test_players_read_srt(timeline, tmp_path):
    write_timeline(tmp_path / "a.srt", timeline)
    blocks = (tmp_path / "a.srt").read_text(encoding="utf-8").strip().split("\n\n")
    assert [block.splitlines() for block in blocks] == [
        ["1", "00:00:00,500 --> 00:00:01,250", "[Ann]: Hello.", CAPTIONS[0].note],
        ["2", "00:00:01,250 --> 00:00:02,000", "Grüße", CAPTIONS[1].note],
        ["3", "01:01:01,000 --> 01:01:02,002", '[Ann]: said "‹so›" & {left}', CAPTIONS[2].note],
    ]


def test_browsers_read_vtt(timeline, tmp_path):
    write_timeline(tmp_path / "a.vtt", timeline)
    header, *blocks = (tmp_path / "a.vtt").read_text(encoding="utf-8").strip().split("\n\n")
    assert header == "WEBVTT"
    assert blocks[0].splitlines() == ["00:00:00.500 --> 00:00:01.250", "<v Ann>Hello.</v>", CAPTIONS[0].note]
    assert blocks[2].splitlines()[:2] == [
        "01:01:01.000 --> 01:01:02.002",
        '<v Ann>said "&lt;so&gt;" &amp; {left}</v>',
    ]


@pytest.mark.parametrize("name", ["a.eaf", "a.TextGrid"])
def test_what_was_written_gives_its_transcripts_and_speakers_again(name, timeline, tmp_path):
    write_timeline(tmp_path / name, timeline)
    assert read_segments(tmp_path / name) == SAID
    assert [segment.text for segment in read_segments(tmp_path / name, ["score@Ann"])] == ["+0.500", "-1.250"]


def test_a_speaker_may_have_a_number(timeline, tmp_path):
    overlapping = [Interval(0.0, 1.0, "Hello."), Interval(0.5, 2.0, "Hello again.")]
    timeline.tiers = tiers("transcript@Guest #2", "Guest #2", overlapping)
    write_timeline(tmp_path / "a.TextGrid", timeline)
    assert {segment.speaker for segment in read_segments(tmp_path / "a.TextGrid")} == {"Guest #2"}


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_captions_are_read_without_the_predictions_below_them(name, timeline, tmp_path):
    write_timeline(tmp_path / name, timeline)
    angles = str.maketrans("‹›", "<>")  # players of .srt hide what stands between < and >
    found = [dataclasses.replace(item, text=item.text.translate(angles)) for item in read_segments(tmp_path / name)]
    assert found == [Segment(item.start, item.end, item.text, item.speaker) for item in CAPTIONS]


def test_an_elan_file_of_others(tmp_path):
    (tmp_path / "a.eaf").write_text(
        """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+01:00" FORMAT="3.0" VERSION="3.0"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds"/>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="2000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="3000"/>
<TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="1500"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="u" TIER_ID="K-Spch" PARTICIPANT="Kim"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1"
 TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>so\n nice</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
</ANNOTATION></TIER>
<TIER LINGUISTIC_TYPE_REF="u" TIER_ID="W-Spch"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2"
 TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4"><ANNOTATION_VALUE></ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
</ANNOTATION></TIER>
<TIER LINGUISTIC_TYPE_REF="t" TIER_ID="K-Gloss" PARENT_REF="K-Spch"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3"
 ANNOTATION_REF="a1"><ANNOTATION_VALUE>translated</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>
<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="u" TIME_ALIGNABLE="true" GRAPHIC_REFERENCES="false"/>
<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="t" TIME_ALIGNABLE="false" GRAPHIC_REFERENCES="false"
 CONSTRAINTS="Symbolic_Association"/>
</ANNOTATION_DOCUMENT>""",
        encoding="utf-8",
    )
    assert read_segments(tmp_path / "a.eaf") == [Segment(0, 1.5, None, "W-Spch"), Segment(2, 3, "so nice", "Kim")]


def test_a_text_grid_in_utf_16_and_in_the_short_form(tmp_path):
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", "3", "<exists>", "2"]
    lines += ['"IntervalTier"', '"Ann"', "0", "3", "2", "0", "1", '""', "1", "3", '"ja ""gut"""']
    lines += ['"TextTier"', '"clicks"', "0", "3", "1", "2", '"x"']
    (tmp_path / "a.TextGrid").write_text("\n".join(lines) + "\n", encoding="utf-16")
    assert read_segments(tmp_path / "a.TextGrid") == [Segment(1.0, 3.0, 'ja "gut"', "Ann")]


def test_subtitles_of_others(tmp_path):
    (tmp_path / "a.vtt").write_text(
        "WEBVTT - made by hand\n\nSTYLE\n::cue { color: red }\n\nNOTE not a cue\n\nintro\n00:01.000 --> 00:02.000 "
        "align:start\n<v.loud Kim>So <i>very</i> <00:01.500>good</v>\n\n00:02.000 --> 00:03.000\n<v Kim>A\n<v Wes>B\n",
        encoding="utf-8",
    )
    assert read_segments(tmp_path / "a.vtt") == [
        Segment(1, 2, "So very good", "Kim"),
        Segment(2, 3, "A B", None),
    ]
    (tmp_path / "a.srt").write_text(
        "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>So good.</i>\r\n{\\an8}Yes.\r\n\r\n", encoding="utf-8-sig", newline=""
    )
    assert read_segments(tmp_path / "a.srt") == [Segment(1, 2.5, "So good. Yes.", None)]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.eaf", "<ANNOTATION", r"a.eaf cannot be read as \.eaf"),
        ("a.TextGrid", "words", r"cannot be read as \.TextGrid"),
        ("a.srt", "1\n00:00:03,000 --> 00:00:02,000\nback\n", "a segment from 3 s to 2 s"),
        ("a.vtt", "no header", r"cannot be read as \.vtt"),
        ("a.vtt", "WEBVTT\n", "a.vtt marks no segment"),
        ("a.TextGrid", "", "a.TextGrid is empty"),
        ("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\nna\xefve\n", "not in UTF-8"),
        ("a.doc", "", r"ends in \.eaf, \.srt, \.textgrid, \.vtt, found \.doc"),
    ],
)
def test_a_file_that_is_no_timeline_is_refused(name, content, sentence, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PaSEError, match=sentence):
        read_segments(tmp_path / name)


def test_a_missing_file_and_a_missing_tier_are_refused(timeline, tmp_path):
    with pytest.raises(PaSEError, match="There is no timeline"):
        read_segments(tmp_path / "a.srt")
    write_timeline(tmp_path / "a.eaf", timeline)
    with pytest.raises(PaSEError, match="has no tier 'Bob'; it has transcript@Ann, score@Ann, transcript"):
        read_segments(tmp_path / "a.eaf", ["Bob"])


def test_a_format_whose_package_is_missing_names_its_extra(monkeypatch, timeline, tmp_path):
    def missing(kind, name):
        raise ModuleNotFoundError(name="pympi")

    monkeypatch.setattr("pase_msa.media.timelines.files.plugins.load", missing)
    with pytest.raises(PaSEError, match=r"package pympi, not installed here; run `pip install 'pase-msa\[media\]'`"):
        write_timeline(tmp_path / "a.eaf", timeline)
    assert not (tmp_path / "a.eaf").exists()


def test_intervals_that_overlap_go_into_further_tiers():
    made = tiers(
        "score", "Ann", [Interval(0, 10, "a"), Interval(5, 15, "b"), Interval(10, 20, "c"), Interval(20, 20, "d")]
    )
    assert [(tier.name, [i.text for i in tier.intervals]) for tier in made] == [
        ("score", ["a", "c", "d"]),
        ("score#2", ["b"]),
    ]
    assert made[0].intervals[-1] == Interval(20, 20.001, "d")  # no annotation program takes an empty interval


def test_words_end_where_the_next_one_begins():
    words = [Interval(0, 1.2, "a"), Interval(1, 2, "b"), Interval(3, 4, "c")]
    assert without_overlap(words) == [Interval(0, 1, "a"), *words[1:]]


def test_a_word_without_length_shares_the_time_of_the_next():
    words = [Interval(0, 1, "a"), Interval(1, 1, "b"), Interval(1, 2, "c"), Interval(2, 3, "d")]
    assert without_overlap(words) == [words[0], Interval(1, 1.5, "b"), Interval(1.5, 2, "c"), words[3]]
    assert len(tiers("words", None, without_overlap(words))) == 1


def test_every_format_has_an_ending():
    assert set(endings()) >= {".eaf", ".srt", ".textgrid", ".vtt"}
    assert is_timeline(Path("A.TextGrid"))
    assert not is_timeline("a.txt")


SRT = "1\n00:00:00,000 --> 00:00:01,000\n[Ann]: Hello.\n\n2\n00:00:01,500 --> 00:00:02,000\nBye.\n"


def test_a_column_of_the_manifest_divides_a_clip(tmp_path):
    (tmp_path / "a.srt").write_text(SRT)
    (tmp_path / "clips.csv").write_text(
        "path,timeline,speaker,split,sentiment\na.mp4,a.srt,Bob,train,1\nb.mp4,,Kim,test,0\n"
    )
    items, kinds = read_clips(tmp_path / "clips.csv")
    assert kinds == {"sentiment": "real"}
    assert [(item.id, item.text, item.start, item.end, item.speaker) for item in items] == [
        ("a_0001", "Hello.", 0.0, 1.0, "Ann"),
        ("a_0002", "Bye.", 1.5, 2.0, "Bob"),
        ("b", None, 0.0, None, "Kim"),
    ]
    assert {item.video for item in items[:2]} == {"a"}
    assert [item.labels["sentiment"] for item in items] == [1.0, 1.0, 0.0]


def test_a_timeline_beside_a_texts_or_times_in_the_manifest_is_refused(tmp_path):
    (tmp_path / "clips.csv").write_text("path,timeline,text\na.mp4,a.srt,Hello.\n")
    with pytest.raises(PaSEError, match="line 2: a timeline gives texts and times of its own"):
        read_clips(tmp_path / "clips.csv")


def test_a_timeline_beside_a_recording_divides_it(tmp_path):
    for name in ("a.mp4", "b.mp4", "b.txt"):
        (tmp_path / name).write_text("said")
    for name in ("a.srt", "b.srt", "alone.srt"):
        (tmp_path / name).write_text(SRT)
    items, _ = read_clips(tmp_path)
    assert [(item.id, item.text) for item in items] == [("a_0001", "Hello."), ("a_0002", "Bye."), ("b", "said")]
    (tmp_path / "a.vtt").write_text("WEBVTT\n")
    with pytest.raises(PaSEError, match=r"a\.mp4 has a\.srt and a\.vtt beside it"):
        read_clips(tmp_path)

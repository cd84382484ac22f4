"""Only arrays and plain containers come out of a pickle; anything else is refused by name and never run."""

import collections
import os
import pickle
import struct
import subprocess

import numpy as np
import pytest

from pase_msa.data.unpickle import load_pickle, release_pages
from pase_msa.errors import PaSEError


@pytest.fixture
def write(tmp_path):
    def write(content, protocol=4):
        path = tmp_path / "file.pkl"
        path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
        return path

    return write


def same(a, b):
    if isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray)
        assert type(b) is np.ndarray
        assert a.shape == b.shape
        if a.dtype.hasobject:
            for x, y in zip(a.reshape(-1), b.reshape(-1), strict=True):
                same(x, y)
        else:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert a == b
        assert type(a) is type(b)


PLAIN = {
    "floats": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "transposed": np.arange(24, dtype=np.int64).reshape(2, 3, 4).transpose(2, 0, 1),
    "empty": np.zeros((0, 5)),
    "none": np.float64(1.5) * np.ones(()),
    "flags": np.array([True, False]),
    "complex": np.array([1 + 2j]),
    "bytes": np.array([[b"video", b"0.5"]]),
    "text": np.array(["café", "x"]),
    "objects": np.array([["a", None], [b"b", 3]], dtype=object),
    "ragged": np.array([np.zeros(2), np.ones((3, 1)), [np.ones(1)]], dtype=object),
    "scalars": [np.float32(0.5), np.int64(3), np.str_("s"), np.bool_(True)],
    "containers": [1, "a", b"b", (1.5, None, {"k": [True]}), {1, 2}, frozenset("x"), bytearray(b"z"), 2j, slice(1, 2)],
    "ordered": collections.OrderedDict(a=np.ones(1)),
    "default": collections.defaultdict(list, a=[np.ones(2)]),
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers_come_back_as_they_were(write, protocol):
    result = load_pickle(write(PLAIN, protocol))
    same(PLAIN, result)
    assert result["default"]["missing"] == []


def test_numpy_1_names_and_shared_arrays_are_read(write):
    shared = np.arange(4.0)
    data = pickle.dumps({"a": shared, "b": [shared]}, 2).replace(b"numpy._core", b"numpy.core")
    result = load_pickle(write(data))
    same({"a": shared, "b": [shared]}, result)
    assert result["a"] is result["b"][0]


def test_python_2_pickles_are_read(write):
    """As Python 2 wrote them: byte strings without a type, array data in them, `__builtin__`, an old dtype state."""

    def short(raw):
        return b"U" + bytes([len(raw)]) + raw

    raw = struct.pack("<2d", 1.5, -2.0)
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + short(b"b") + b"tR"
        b"(I1\n(I2\ntcnumpy\ndtype\n(" + short(b"f8") + b"I0\nI1\ntR(I3\n" + short(b"<") + b"NNNI-1\nI-1\nI0\ntb"
        b"I00\n" + short(raw) + b"tb"
    )
    strings = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + short(b"b") + b"tR"
        b"(I1\n(I1\ntcnumpy\ndtype\n(" + short(b"S2") + b"I0\nI1\ntR(I3\n" + short(b"|") + b"NNNI2\nI1\nI0\ntb"
        b"I00\n" + short(b"v1") + b"tb"
    )
    video = short(b"vid\xe9o")
    data = b"\x80\x02}(" + short(b"x") + array + short(b"s") + strings + short(b"id") + video
    data += short(b"set") + b"c__builtin__\nset\n](K\x01e\x85Ru."
    result = load_pickle(write(data))
    np.testing.assert_array_equal(result["x"], [1.5, -2.0])
    assert result["s"].tolist() == [b"v1"]
    assert result["id"] == "vidéo"
    assert result["set"] == {1}


class Evil:
    """Reduces to any call."""

    def __init__(self, function, *arguments, state=None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.call


def hostile(sentinel):
    touch = f"touch {sentinel}"
    code = f"open({str(sentinel)!r}, 'w')"
    nested = np.empty(2, dtype=object)
    nested[0] = Evil(subprocess.check_output, ["touch", str(sentinel)])
    return {
        "os.system": (f"cos\nsystem\n(S{touch!r}\ntR.".encode(), "os.system"),
        "posix.system": (pickle.dumps(Evil(os.system, touch)), "posix.system"),
        "eval": (pickle.dumps(Evil(eval, code)), "builtins.eval"),
        "old eval": (f"c__builtin__\neval\n(S{code!r}\ntR.".encode(), "__builtin__.eval"),
        "exec": (pickle.dumps(Evil(exec, code), 0), "exec"),
        "subprocess": (pickle.dumps({"a": [Evil(subprocess.Popen, ["touch", str(sentinel)])]}), "subprocess.Popen"),
        "in an object array": (pickle.dumps(nested), "subprocess.check_output"),
        "getattr chain": (pickle.dumps(Evil(getattr, "x", "__class__")), "builtins.getattr"),
        "import": (pickle.dumps(Evil(__import__, "os")), "builtins.__import__"),
        "stack global": (
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c" + bytes([len(touch)]) + touch.encode() + b"\x85R.",
            "os.system",
        ),
        "dotted": (b"\x80\x04\x8c\x08builtins\x8c\x0edict.__class__\x93.", "builtins.dict.__class__"),
        "dotted numpy": (b"\x80\x04\x8c\x05numpy\x8c\x0bos.getlogin\x93.", "numpy.os.getlogin"),
        "inst": (f"(S{touch!r}\nios\nsystem\n.".encode(), "os.system"),
        "persistent": (b"Pos.system\n.", ""),
        "numpy load": (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
        "numpy eval": (b"cnumpy.testing._private.utils\nrunstring\n.", "runstring"),
        "codec": (b"\x80\x04c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "rot13"),
        "factory": (b"ccollections\ndefaultdict\n(c_codecs\nencode\ntR.", "plain type"),
        "zeros": (b"c__builtin__\nbytearray\n(I999999999999\ntR.", "block of zeros"),
        "module": (b"\x80\x04\x8c\x11pase_msa.data.csd\x8c\x04read\x93.", "pase_msa.data.csd.read"),
    }


CASES = list(hostile("x"))


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_pickle_is_refused_by_name_and_not_run(write, tmp_path, case):
    sentinel = tmp_path / "sentinel"
    data, name = hostile(sentinel)[case]
    path = write(data)
    with pytest.raises(PaSEError) as caught:
        load_pickle(path)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)
    assert not sentinel.exists()


def array_of(dtype, state, data, shape=(1,)):
    """A pickled array with any dtype state and any content, as no cross_fitted writer makes it."""
    made = Evil(np.dtype, dtype, False, True, state=state)
    reconstruct = np.zeros(0).__reduce__()[0]
    return pickle.dumps(Evil(reconstruct, np.ndarray, (0,), b"b", state=(1, shape, made, False, data)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (array_of("O", (3, "|", None, None, None, -1, -1, 0), b"A" * 8), "Python objects"),
        (array_of("V8", (3, "|", None, ("a",), {"a": (np.dtype("f8"), 10**9)}, 8, 1, 0), b"A" * 8), "V8"),
        (array_of("f8", (3, "<", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0), b"A" * 8), "records"),
        (array_of("f8", (3, "<", (np.dtype("f8"), (9,)), None, None, 8, 1, 0), b"A" * 8), "records"),
        (array_of("f8,O", (3, "<", None, None, None, -1, -1, 0), b"A" * 16), "f8,O"),
        (array_of("f8", (3, "<", None, None, None, -1, -1, 0), b"A" * 8, (1000,)), "damaged"),
        (array_of("S", (3, "|", None, None, None, 0, 1, 0), b"", (10**12,)), "without a size"),
        (pickle.dumps(Evil(np.ndarray, (1,), "O", b"A" * 8)), "none of the plain types"),
        (array_of("U2", (3, "<", None, None, None, 8, 4, 8), b"\xff" * 8), "do not exist"),
    ],
)
def test_a_crafted_array_cannot_reach_memory(write, data, reason):
    with pytest.raises(PaSEError, match=reason):
        load_pickle(write(data))


@pytest.mark.parametrize(
    "data", [b"", b"garbage", b"\x80\x05", pickle.dumps(PLAIN, 4)[:-20], b"\x80\xff.", b"PK\x03\x04zip"]
)
def test_garbage_and_cut_files_are_refused_in_a_sentence(write, data):
    with pytest.raises(PaSEError, match="damaged or cut short"):
        load_pickle(write(data))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PaSEError, match=r"nothing\.pkl"):
        load_pickle(tmp_path / "nothing.pkl")


def test_a_refusal_leaves_the_next_load_as_it_was(write):
    """A file cannot change our stand-ins for the files after it."""
    poison = b"\x80\x02c_codecs\nencode\nN}X\x08\x00\x00\x00__func__K\x01s\x86b."
    with pytest.raises(PaSEError):
        load_pickle(write(poison))
    dtype = b"\x80\x02cnumpy\ndtype\nN}X\x0c\x00\x00\x00__setstate__K\x01s\x86b."
    with pytest.raises(PaSEError):
        load_pickle(write(dtype))
    same(PLAIN, load_pickle(write(PLAIN, 2)))


def test_shared_nested_tuples_as_a_key_are_refused_at_once(write):
    """Their hash doubles its time with every level."""
    key = ()
    for _ in range(60):
        key = (key, key)
    for data in (
        b"\x80\x04}" + pickle.dumps(key, 4)[2:-1] + b"K\x01s.",
        b"\x80\x04\x8f(" + pickle.dumps(key, 4)[2:-1] + b"\x90.",
    ):
        with pytest.raises(PaSEError, match="nested or long"):
            load_pickle(write(data))


def test_deep_nesting_is_read(write):
    data = b"\x80\x04" + b"]" * 20_000 + b"a" * 19_999 + b"."
    depth, inner = 1, load_pickle(write(data))
    while inner:
        depth, inner = depth + 1, inner[0]
    assert depth == 20_000


def test_arrays_are_views_of_the_file(write):
    values = np.arange(100_000.0)
    array = load_pickle(write({"a": values}, 4))["a"]
    assert not array.flags.owndata
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, values)


def test_a_size_beyond_the_file_takes_no_memory(write):
    for code in (
        b"\x8e" + (2**60).to_bytes(8, "little"),
        b"B" + (2**31).to_bytes(4, "little"),
        b"\x8d" + (2**60).to_bytes(8, "little"),
    ):
        with pytest.raises(PaSEError, match="damaged"):
            load_pickle(write(b"\x80\x04" + code + b"abc."))


@pytest.mark.parametrize("protocol", range(6))
def test_pages_that_were_given_back_are_read_again(write, protocol):
    array = np.arange(20_000, dtype=np.float32)
    loaded = load_pickle(write({"a": array}, protocol))["a"]
    np.testing.assert_array_equal(loaded, array)
    release_pages()
    np.testing.assert_array_equal(loaded, array)


def laughing(kind, levels=40):
    """A few hundred bytes that stand for 3^40 entries."""
    content = kind([1.0, 2.0, 3.0])
    for _ in range(levels):
        content = kind([content] * 3)
    return content


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_file_that_stands_for_far_more_than_its_size_is_refused(write, kind):
    with pytest.raises(PaSEError, match="refers to parts of itself again and again"):
        load_pickle(write({"audio": laughing(kind)}))


def test_a_list_that_holds_itself_is_refused(write):
    content = [1.0]
    content.append(content)
    with pytest.raises(PaSEError, match="refers to parts of itself"):
        load_pickle(write({"audio": content}))


def test_rows_that_share_their_parts_are_read(write):
    row = [0.5] * 100
    assert load_pickle(write({"audio": [row] * 500}))["audio"][499] == row

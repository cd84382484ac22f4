"""Ways to damage a file: its bytes, its structure, its place in the file system."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.fuzz.corpus import STRUCTURES, plain

Rng = np.random.Generator
HOSTILE = (
    "\x1b[31mred\x1b[0m",
    "a" * 1_000_000,
    "",
    " ",
    "..",
    "../../etc/passwd",
    "nul\x00inside",
    "two\nlines",
    "\u202eright to left",
    "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    "split",
    "id",
    "text",
    "labels",
    "-1",
    "nan",
    "%s%n{0}",
)


def _odd(rng: Rng) -> Any:
    """A value that nobody expects where it is put."""
    deep: Any = []
    for _ in range(int(rng.choice([3, 200, 3000]))):
        deep = [deep]
    shared: Any = ()
    for _ in range(60):  # 2 ** 60 leaves, were it walked without remembering
        shared = (shared, shared)
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    plain = [None, True, 0, -1, 7, 1e308, float("nan"), float("inf"), 10**400, "", "Positive", b"\xff\xfe"]
    containers = [[], {}, (), set(), [None], [[1, 2], [3]], {"a": 1}, {1: 2}, deep, shared, cyclic, range(3)]
    arrays = [np.zeros(0), np.zeros((0, 4)), np.zeros((3, 0)), np.float32(3), np.array("text"), np.arange(5)]
    arrays += [np.array(["a", "b"]), np.array([None, 1, "x"], dtype=object), np.zeros((2, 3, 4, 5))]
    arrays += [np.array([1 + 2j]), np.array(["NaT"], "U3"), np.full((12, 5, 3), np.nan)]
    values = [*plain, *containers, *arrays]
    return values[int(rng.integers(len(values)))]


def flip(data: bytearray, rng: Rng) -> bytearray:
    """Some bits, anywhere."""
    for _ in range(int(rng.choice([1, 2, 8, 64]))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return data


def flip_head(data: bytearray, rng: Rng) -> bytearray:
    """Some bytes where headers are."""
    for _ in range(int(rng.choice([1, 4, 16]))):
        data[int(rng.integers(min(len(data), 256)))] = int(rng.integers(256))
    return data


def cut(data: bytearray, rng: Rng) -> bytearray:
    """The end is missing."""
    return data[: int(rng.integers(len(data)))]


def insert(data: bytearray, rng: Rng) -> bytearray:
    """Bytes too many."""
    place = int(rng.integers(len(data)))
    return data[:place] + bytearray(rng.bytes(int(rng.choice([1, 8, 300])))) + data[place:]


def remove(data: bytearray, rng: Rng) -> bytearray:
    """Bytes too few."""
    place = int(rng.integers(len(data)))
    return data[:place] + data[place + int(rng.choice([1, 8, 300])) :]


def blank(data: bytearray, rng: Rng) -> bytearray:
    """A block of zeros or ones, as a failed copy leaves it."""
    place, size = int(rng.integers(len(data))), int(rng.choice([4, 8, 64, 512]))
    fill = bytes([int(rng.choice([0, 255, 127]))])
    return data[:place] + bytearray(fill * min(size, len(data) - place)) + data[place + size :]


def lie(data: bytearray, rng: Rng) -> bytearray:
    """A number somewhere becomes a huge or a negative one: a size, an offset, a count."""
    width = int(rng.choice([4, 8]))
    place = int(rng.integers(max(1, len(data) - width)))
    value = int(rng.choice([2**31 - 1, -1, 2**30, -(2**31), 1 << 20]))
    data[place : place + width] = (value % (1 << (8 * width))).to_bytes(width, "little")
    return data


def rotate(data: bytearray, rng: Rng) -> bytearray:
    """Two parts exchanged."""
    place = int(rng.integers(len(data)))
    return data[place:] + data[:place]


def empty(data: bytearray, rng: Rng) -> bytearray:
    """Nothing is left."""
    return bytearray()


def other(data: bytearray, rng: Rng) -> bytearray:
    """Content of another kind under this name."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((2, 2)))
    bomb = gzip.compress(b"\0" * 20_000_000)
    contents = [b"<html>404</html>", b"version https://git-lfs.github.com/spec/v1\n", buffer.getvalue(), bomb]
    contents += [pickle.dumps({"train": {}}), b"\x89HDF\r\n\x1a\n" + bytes(64), b"{}", b"[" * 100_000]
    contents += [b"a: &a [*a]\n", b"\xff\xfe\x00\x00", b'id,split\n"u1,train\n']
    return bytearray(contents[int(rng.integers(len(contents)))])


def yaml_bomb(data: bytearray, rng: Rng) -> bytearray:
    """Aliases that multiply."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return bytearray("\n".join(lines).encode())


BYTES: tuple[Callable[[bytearray, Rng], bytearray], ...] = (
    flip, flip, flip_head, flip_head, cut, insert, remove, blank, lie, lie, lie, rotate, empty, other, yaml_bomb,
)  # fmt: skip


def damage_bytes(files: list[Path], kind: str, rng: Rng) -> str:
    """One file, one to three times."""
    file = files[int(rng.integers(len(files)))]
    data, names = bytearray(file.read_bytes()), []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        change = BYTES[int(rng.integers(len(BYTES)))]
        if data or change in (other, yaml_bomb):
            data = change(data, rng)
            names.append(change.__name__)
    file.write_bytes(data)
    return f"{'+'.join(names)} {file.name}"


def _odd_json(rng: Rng) -> Any:
    """As `_odd`, of what JSON can hold."""
    values = [
        None,
        True,
        0,
        -1,
        7,
        1e308,
        float("nan"),
        "",
        "Positive",
        [],
        {},
        [None],
        [[1, 2], [3]],
        {"a": 1},
        [[[[]]]],
    ]
    return values[int(rng.integers(len(values)))]


def edit(content: Any, rng: Rng, depth: int = 0, odd: Callable[[Rng], Any] = _odd) -> Any:
    """Plain containers with one thing changed: a key dropped, renamed, exchanged, a value replaced or cut."""
    if isinstance(content, dict) and content:
        keys = list(content)
        key = keys[int(rng.integers(len(keys)))]
        if depth < 3 and rng.random() < 0.6:
            return {**content, key: edit(content[key], rng, depth + 1, odd)}
        changed = dict(content)
        value = changed.pop(key)
        action = int(rng.integers(5))
        if action == 1:
            changed[HOSTILE[int(rng.integers(len(HOSTILE)))]] = value
        elif action == 2:
            second = keys[int(rng.integers(len(keys)))]
            changed[key], changed[second] = content[second], value
        elif action == 3:
            changed[key] = odd(rng)
        elif action == 4:
            changed |= {key: value, HOSTILE[int(rng.integers(len(HOSTILE)))]: odd(rng)}
        return changed
    if isinstance(content, list | tuple) and content:
        items = list(content)
        place, action = int(rng.integers(len(items))), int(rng.integers(5))
        if action == 0:
            del items[place]
        elif action == 1:
            items[place] = odd(rng)
        elif action == 2:
            items[place] = edit(items[place], rng, depth + 1, odd)
        elif action == 3:
            items[place] = HOSTILE[int(rng.integers(len(HOSTILE)))]
        else:
            items = items * 2
        return type(content)(items)
    if isinstance(content, np.ndarray) and content.size and content.ndim:
        action = int(rng.integers(8))
        changes: list[Callable[[], Any]] = [
            lambda: content[:-1],
            lambda: content.tolist(),
            lambda: content.astype(object),
            lambda: content.reshape(-1),
            lambda: content[None],
            lambda: content.astype("U8"),
            lambda: (
                np.where(rng.random(content.shape) < 0.3, np.nan, content) if content.dtype.kind == "f" else content
            ),
            lambda: list(content),
        ]
        return changes[action]()
    return odd(rng)


def damage_structure(files: list[Path], kind: str, rng: Rng) -> str:
    """A pickle, JSON, CSV or HDF5 file whose content is not what it was to be."""
    if kind in STRUCTURES and rng.random() < 0.8:
        name, make = STRUCTURES[kind]
        file = next(file for file in files if file.name == name)
        content = make()
        for _ in range(int(rng.choice([1, 1, 2]))):
            content = edit(content, rng)
        try:
            file.write_bytes(pickle.dumps(content, int(rng.choice([2, 4]))))
        except RecursionError:
            file.write_bytes(b"\x80\x04" + b"]" * 5000 + b"a" * 4999 + b".")
        return f"structure of {file.name}"
    file = files[int(rng.integers(len(files)))]
    if file.suffix == ".json" and (content := plain(file)) is not None:
        if rng.random() < 0.05:
            file.write_text("[" * 5000 + "]" * 5000)
        else:
            file.write_text(json.dumps(edit(content, rng, odd=_odd_json), default=str))
        return f"structure of {file.name}"
    if file.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))
        row = int(rng.choice([0, int(rng.integers(len(rows)))]))
        column = int(rng.integers(max(1, len(rows[row]))))
        action = int(rng.integers(4))
        if action == 0:
            rows[row] = rows[row][:column]
        elif action == 1:
            rows[row] = [*rows[row], "more"]
        elif action == 2:
            rows[row][column : column + 1] = [HOSTILE[int(rng.integers(len(HOSTILE)))]]
        else:
            rows.insert(row, list(rows[row]))
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
        return f"cells of {file.name}"
    if file.suffix == ".npy":
        odd = _odd(rng)
        np.save(file, odd if isinstance(odd, np.ndarray) else np.zeros(int(rng.integers(9))), allow_pickle=True)
        return f"array of {file.name}"
    if file.suffix in (".csd", ".h5"):
        return damage_hdf5(file, rng)
    return damage_bytes(files, kind, rng)


def damage_hdf5(file: Path, rng: Rng) -> str:
    """A group or data set that is missing, renamed, of another type or shape."""
    with h5py.File(file, "r+") as content:
        names: list[str] = []
        content.visit(names.append)
        name = names[int(rng.integers(len(names)))]
        action = int(rng.integers(4))
        if action == 0:
            del content[name]
        elif action == 1:
            content.move(name, f"{name}_moved")
        else:
            del content[name]
            values = [np.zeros(0), np.zeros((4, 4)), "text", np.array([b"a", b"b"]), 3.0, np.full((2, 2), np.nan)]
            content[name] = values[int(rng.integers(len(values)))]
    return f"{name} of {file.name}"


def damage_place(files: list[Path], kind: str, rng: Rng) -> str:
    """A file that is missing, a folder, a pipe, a loop, or forbidden; or a file too many."""
    file = files[int(rng.integers(len(files)))]
    action = int(rng.integers(6))
    if action < 5:
        file.unlink()
    if action == 1:
        file.mkdir()
    elif action == 2:
        os.mkfifo(file)
    elif action == 3:
        file.symlink_to(file)
    elif action == 4:
        file.symlink_to("/dev/zero")
    elif action == 5:
        beside = file.with_name(
            ["labels.npy", "extra.json", ".hidden", "id.npy", "a" * 200 + ".npy"][int(rng.integers(5))]
        )
        shutil.copy(file, beside)
    return f"place {action} of {file.name}"


WAYS = (damage_bytes, damage_bytes, damage_bytes, damage_structure, damage_structure, damage_place)


def damage(folder: Path, kind: str, rng: Rng) -> str:
    """Damage one of the files in a folder; says how.

    Args:
        folder: copy of what `corpus` wrote.
        kind: of input.
        rng: decides everything.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    way = WAYS[int(rng.integers(len(WAYS)))]
    return way(files, kind, rng)

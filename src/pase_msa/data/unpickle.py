"""Pickles of arrays and plain containers, and nothing else.

A pickle is a program: `pickle.load` runs whatever it names. Published feature files need only NumPy arrays,
numbers, text and plain containers, so these names are allowed and any other is refused before it is looked
up.

NumPy's own constructors are not used either: a crafted dtype state makes them read object pointers from the
file's bytes, which amounts to running its code. The classes here build arrays from checked parts instead.
"""

from __future__ import annotations

import collections
import pickle
import re
import sys
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pase_msa.errors import PaSEError

_PLAIN: dict[str, Any] = {
    kind.__name__: kind for kind in (list, dict, set, frozenset, tuple, str, int, float, bool, complex, slice)
}
_SIMPLE = re.compile(r"[biufcSUO]\d*")


class _Refused(Exception):
    """The file names something that is not allowed; the message becomes part of the PaSEError."""


class _Dtype:
    """Stands in for `numpy.dtype`: simple types only, no fields, no flags from outside."""

    __slots__ = ("resolved",)

    def __init__(self, spec: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(spec, str) or not _SIMPLE.fullmatch(spec):
            raise _Refused(f"an array of type {spec!r}")
        self.resolved = np.dtype(spec)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subarray, names, fields, size = state[1:6]
        if subarray is not None or names is not None or fields is not None:
            raise _Refused("an array of records")
        if self.resolved.itemsize == 0 and size > 0:  # Python 2 writes "S" and leaves the size to the state
            self.resolved = np.dtype(f"{self.resolved.kind}{size // (4 if self.resolved.kind == 'U' else 1)}")
        if order in ("<", ">"):
            self.resolved = self.resolved.newbyteorder(order)


class _Pending:
    """An array whose content is still to come; `_finish` puts the array in its place."""

    __slots__ = ("state",)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state[-4:]  # an optional version comes first: shape, dtype, is_fortran, data


_NDARRAY = object()  # stands in for the class `numpy.ndarray`, which is only ever an argument


def _array(data: Any, dtype: Any, shape: Any, order: str) -> Any:
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(dtype, _Dtype) or dtype.resolved.hasobject or not isinstance(raw, bytes | bytearray):
        raise _Refused("an array of Python objects made from bytes")
    if not dtype.resolved.itemsize:
        if raw or np.prod(shape) > 1:  # empty text: a shape of any size fits no bytes
            raise _Refused("an array of many items without a size")
        return np.zeros(shape, dtype.resolved)
    codes = np.dtype("u4").newbyteorder(dtype.resolved.byteorder)
    if dtype.resolved.kind == "U" and np.frombuffer(raw, codes).max(initial=0) > sys.maxunicode:
        raise _Refused("text of characters that do not exist")
    return np.frombuffer(raw, dtype.resolved).reshape(shape, order=order)  # type: ignore[call-overload]


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = self._allowed.get((module, name))
        if allowed is None and module in ("builtins", "__builtin__"):
            allowed = _PLAIN.get(name)
        if allowed is None:
            raise _Refused(f"{module}.{name}")
        return allowed

    @cached_property
    def _allowed(self) -> dict[tuple[str, str], Any]:
        # bound methods, because BUILD can set attributes on a function or a class but not on these
        table: dict[tuple[str, str], Any] = {
            ("numpy", "ndarray"): _NDARRAY,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): self._encode,
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("collections", "defaultdict"): self._defaultdict,
        }
        for core in ("numpy.core", "numpy._core"):
            table[f"{core}.multiarray", "_reconstruct"] = self._reconstruct
            table[f"{core}.multiarray", "scalar"] = self._scalar
            table[f"{core}.numeric", "_frombuffer"] = self._frombuffer
        for builtins in ("builtins", "__builtin__"):
            table[builtins, "bytes"] = self._bytes
            table[builtins, "bytearray"] = self._bytearray
        return table

    def _reconstruct(self, subtype: Any, shape: Any, typecode: Any) -> _Pending:
        if subtype is not _NDARRAY:
            raise _Refused("an array of a class of its own")
        return _Pending()

    def _scalar(self, dtype: Any, data: Any = b"") -> Any:
        return _array(data, dtype, (1,), "C")[0]

    def _frombuffer(self, data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> Any:
        if axes is not None:
            return _array(data, dtype, shape, "C").transpose(axes)
        return _array(data, dtype, shape, order)

    def _encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise _Refused(f"the codec {encoding!r}")
        return text.encode("latin1")

    def _defaultdict(self, factory: Any = None, *items: Any) -> Any:
        if factory is not None and not any(factory is kind for kind in _PLAIN.values()):
            raise _Refused("a default made by something other than a plain type")
        return collections.defaultdict(factory, *items)

    def _bytearray(self, *content: Any) -> bytearray:
        if content and not isinstance(content[0], str | bytes | bytearray | list):
            raise _Refused("a block of zeros")  # a number would allocate that many bytes, such as a terabyte
        return bytearray(*content)

    def _bytes(self, *content: Any) -> bytes:
        return bytes(self._bytearray(*content))


def _finish(value: Any, done: dict[int, Any]) -> Any:
    """`value` with arrays in the places of the pending ones; each container is visited once."""
    if id(value) in done:
        return done[id(value)]
    if isinstance(value, list):
        done[id(value)] = value
        if not all(type(item) in (float, int, str) for item in value):
            value[:] = [_finish(item, done) for item in value]
        return value
    if isinstance(value, dict):
        done[id(value)] = value
        for key, item in dict.items(value):
            dict.__setitem__(value, key, _finish(item, done))
        return value
    if isinstance(value, tuple):
        done[id(value)] = tuple(_finish(item, done) for item in value)
        return done[id(value)]
    if isinstance(value, set | frozenset) and any(isinstance(item, _Pending) for item in value):
        raise _Refused("an array inside a set")
    if isinstance(value, _Dtype):
        return value.resolved
    if not isinstance(value, _Pending):
        return value
    shape, dtype, fortran, data = value.state
    order = "F" if fortran else "C"
    if isinstance(data, list) and isinstance(dtype, _Dtype) and dtype.resolved.hasobject:
        result = np.empty(len(data), dtype=object)
        done[id(value)] = result
        for i, item in enumerate(data):
            result[i] = _finish(item, done)
        done[id(value)] = result.reshape(shape, order=order)  # type: ignore[call-overload]
    else:
        done[id(value)] = _array(data, dtype, shape, order)
    return done[id(value)]


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle of NumPy arrays and plain containers, of Python 2 or 3; nothing in it is run.

    Arrays are views of the file's bytes where that is possible, and read-only there. Byte strings of Python
    2 come as text (Latin-1).

    Errors:
        PaSEError: the file names anything else (the sentence says what), or is no whole pickle.
    """
    try:
        with Path(path).open("rb") as file:
            return _finish(_Unpickler(file, encoding="latin1").load(), {})
    except _Refused as refusal:
        raise PaSEError(
            f"{path} was to hold arrays and plain containers, but it asks for {refusal}; nothing was run: "
            "get the file from its publisher, or save its arrays with numpy.save as a folder of arrays."
        ) from None
    except FileNotFoundError as error:
        raise PaSEError(f"There is no {path}; give the pickle that holds the data.") from error
    except Exception as error:  # garbage can raise anything: KeyError, UnicodeError, MemoryError, ...
        raise PaSEError(
            f"{path} was to be a pickle, but it is damaged or cut short ({type(error).__name__}: {error}); "
            "download or write it again."
        ) from error

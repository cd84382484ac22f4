"""What may stand in a pickle of plain data: stand-ins for the types and functions that such files name.

NumPy's own constructors are not handed out: a crafted dtype state makes them read object pointers from the file's
bytes, which is as good as running its code. The stand-ins build arrays from checked parts, and have no attribute that a
file could set.
"""

from __future__ import annotations

import collections
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np

_SIMPLE = re.compile(r"[biufcSUO]\d*")
_KEY_PARTS = 16  # parts of a tuple that serves as a key


class Refused(Exception):
    """What the file asks for is not allowed; the sentence goes into the PaSEError."""


class Dtype:
    """Stands in for `numpy.dtype`: simple types only, no fields, no flags from outside."""

    __slots__ = ("resolved",)

    def __init__(self, spec: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(spec, str) or not _SIMPLE.fullmatch(spec):
            raise Refused(f"an array of type {str(spec)[:40]!r}")
        self.resolved = np.dtype(spec)

    def set_state(self, state: Any) -> None:
        """Byte order, and the size of text that Python 2 leaves to the state."""
        order, subarray, names, fields, size = state[1:6]
        if subarray is not None or names is not None or fields is not None:
            raise Refused("an array of records")
        if self.resolved.itemsize == 0 and size > 0:
            self.resolved = np.dtype(f"{self.resolved.kind}{size // (4 if self.resolved.kind == 'U' else 1)}")
        if order in ("<", ">"):
            self.resolved = self.resolved.newbyteorder(order)


class Pending:
    """An array whose content is still to come; the array takes its place as soon as its state is there."""

    __slots__ = ()


_NDARRAY = object()  # stands in for the class `numpy.ndarray`, which is only ever an argument


def _array(data: Any, dtype: Any, shape: Any, order: str) -> Any:
    """An array over bytes of the file."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(dtype, Dtype) or dtype.resolved.hasobject or not isinstance(raw, bytes | bytearray | memoryview):
        raise Refused("an array of Python objects made from bytes")
    if not dtype.resolved.itemsize:
        if raw or np.prod(shape) > 1:  # empty text: a shape of any size fits no bytes
            raise Refused("an array of many items without a size")
        return np.zeros(shape, dtype.resolved)
    codes = np.dtype("u4").newbyteorder(dtype.resolved.byteorder)
    if dtype.resolved.kind == "U" and np.frombuffer(raw, codes).max(initial=0) > sys.maxunicode:
        raise Refused("text of characters that do not exist")
    return np.frombuffer(raw, dtype.resolved).reshape(shape, order=cast(Any, order))


def array_of_state(state: Any) -> Any:
    """An array from the state that NumPy writes: (version,) shape, dtype, is_fortran, data."""
    shape, dtype, fortran, data = state[-4:]
    order = "F" if fortran else "C"
    if isinstance(data, list) and isinstance(dtype, Dtype) and dtype.resolved.hasobject:
        if any(isinstance(item, Pending) for item in data):
            raise Refused("an array that holds itself")
        result = np.empty(len(data), dtype=object)
        for i, item in enumerate(data):
            result[i] = item
        return result.reshape(shape, order=cast(Any, order))
    return _array(data, dtype, shape, order)


_CONTAINERS = (list, tuple, dict, set, frozenset)


def extent(content: Any) -> float:
    """Entries of nested containers, a container counted as often as it is reached; infinite where one holds itself.

    A pickle may refer to a container many times, at each level of nesting anew. A few hundred bytes then stand for more
    entries than any memory holds, and whoever converts or compares them does not come back.

    Args:
        content: container from a pickle, of any depth.
    """
    counted: dict[int, float] = {}
    inner: dict[int, list[Any]] = {}  # containers in a container that is being counted
    waiting = [content]
    while waiting:
        one = waiting[-1]
        if id(one) not in counted:
            parts: Any = one.values() if isinstance(one, dict) else one
            if isinstance(one, np.ndarray):
                parts = one.reshape(-1).tolist()
            # types are few: most containers hold numbers only, and none of these is looked at
            nested = any(issubclass(kind, (*_CONTAINERS, np.ndarray)) for kind in set(map(type, parts)))
            inner[id(one)] = [part for part in parts if is_container(part)] if nested else []
            counted[id(one)] = float("inf")  # until its parts are counted
            waiting += [part for part in inner[id(one)] if id(part) not in counted]
            if len(inner[id(one)]):
                continue
        waiting.pop()
        if (held := inner.pop(id(one), None)) is not None:
            size = one.size if isinstance(one, np.ndarray) else len(one)
            counted[id(one)] = size + sum(counted[id(part)] for part in held)
    return counted[id(content)]


def is_container(value: Any) -> bool:
    """Whether a value can hold others."""
    return isinstance(value, _CONTAINERS) or (isinstance(value, np.ndarray) and value.dtype == object)


def checked_key(value: Any) -> Any:
    """A key of a mapping, or a member of a set, if its hash takes no time to speak of."""
    parts = value if isinstance(value, tuple) else (value,)
    if len(parts) > _KEY_PARTS or any(isinstance(part, tuple | frozenset | memoryview | Pending) for part in parts):
        raise Refused("a mapping or a set whose keys are nested or long")
    return value


def own_bytes(value: Any) -> Any:
    """Bytes that belong to no array; a view would be of no use to anybody."""
    return bytes(value) if isinstance(value, memoryview) else value


def checked_set(items: Iterable[Any] = ()) -> set[Any]:
    """A set of members that `checked_key` takes."""
    return {checked_key(item) for item in items}


def checked_frozenset(items: Iterable[Any] = ()) -> frozenset[Any]:
    """A set that does not change, of members that `checked_key` takes."""
    return frozenset(checked_set(items))


def _pairs(items: Any) -> list[tuple[Any, Any]]:
    pairs = list(items.items() if isinstance(items, dict) else items)
    return [(checked_key(key), value) for key, value in pairs]


def _checked_dict(items: Any = ()) -> dict[Any, Any]:
    return dict(_pairs(items))


def _ordered(items: Any = ()) -> dict[Any, Any]:
    return collections.OrderedDict(_pairs(items))


def _defaultdict(factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    if factory is not None and factory not in _PLAIN:
        raise Refused("a default made by something other than a plain type")
    return collections.defaultdict(_PLAIN.get(factory), _pairs(items))


def _bytearray(*content: Any) -> bytearray:
    if content and not isinstance(content[0], str | bytes | bytearray | list | memoryview):
        raise Refused("a block of zeros")  # a number asks for that many bytes, a terabyte if it likes
    return bytearray(*content)


def _bytes(*content: Any) -> bytes:
    return bytes(_bytearray(*content))


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"the codec {str(encoding)[:40]!r}")
    return text.encode("latin1")


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> Pending:
    if subtype is not _NDARRAY:
        raise Refused("an array of a class of its own")
    return Pending()


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _array(data, dtype, (1,), "C")[0]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> Any:
    if axes is not None:
        return _array(data, dtype, shape, "C").transpose(axes)
    return _array(data, dtype, shape, order)


_TYPES: tuple[type, ...] = (list, tuple, str, int, float, bool, complex, slice)


class _Plain:
    """Stands in for a plain type, on which a file could set attributes were it a class or a function."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __call__(self, *content: Any) -> Any:
        return self.kind(*content)


_STAND_INS = {kind: _Plain(kind) for kind in _TYPES}


def _allowed() -> dict[tuple[str, str], Any]:
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): Dtype,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): _ordered,
        ("collections", "defaultdict"): _defaultdict,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        table[f"{core}.multiarray", "scalar"] = _scalar
        table[f"{core}.numeric", "_frombuffer"] = _frombuffer
    for builtins in ("builtins", "__builtin__"):
        table |= {(builtins, kind.__name__): stand_in for kind, stand_in in _STAND_INS.items()}
        table |= {(builtins, "bytes"): _bytes, (builtins, "bytearray"): _bytearray}
        table |= {(builtins, "dict"): _checked_dict, (builtins, "set"): checked_set}
        table[builtins, "frozenset"] = checked_frozenset
    return table


ALLOWED = _allowed()
#: what may be the default of a mapping, by the stand-in that the file names
_PLAIN: dict[Any, Callable[[], Any]] = {stand_in: kind for kind, stand_in in _STAND_INS.items()}
_PLAIN |= {_checked_dict: dict, checked_set: set, checked_frozenset: frozenset, _bytes: bytes, _bytearray: bytearray}
#: what may be called
CALLED = [value for value in dict.fromkeys(ALLOWED.values()) if value is not _NDARRAY]

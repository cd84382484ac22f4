"""Pickles of arrays and plain containers, and nothing else.

A pickle is a program: `pickle.load` runs whatever it names. Published feature files need only NumPy arrays, numbers,
text and plain containers, so these names are allowed (`pickle_parts`) and any other is refused before it is looked up.

The file is mapped and read by the standard library's unpickler in Python, with some of its steps replaced:

- bytes of arrays are views of the mapped file, so that a file larger than memory costs what is read of it;
- a size is compared with what is left of the file before memory is taken for it;
- keys of mappings and members of sets are text, numbers, or short flat tuples of these: the hash of nested tuples that
  share their parts takes time exponential in their depth;
- a state is set on arrays and their types only, never on anything else that the file can name.
"""

from __future__ import annotations

import mmap
import pickle
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

from pase_msa.data.pickle_parts import (
    ALLOWED,
    CALLED,
    Dtype,
    Pending,
    Refused,
    array_of_state,
    checked_frozenset,
    checked_key,
    checked_set,
    extent,
    is_container,
    own_bytes,
)
from pase_msa.errors import PaSEError

_VIEWED = 4096  # bytes from which on a string of bytes is a view of the file
_EXPANSION = 4  # entries per byte of the file; without parts that refer to others there is one at most
_MAPPED: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()  # files of which something is still in use


class _Reader:
    """The mapped file from a position on; every size is compared with what is left."""

    def __init__(self, content: memoryview) -> None:
        self.content, self.place = content, 0

    def view(self, size: int) -> memoryview:
        """The next bytes, without a copy."""
        if size < 0 or size > len(self.content) - self.place:
            raise EOFError(f"{size} bytes were announced, {len(self.content) - self.place} are left")
        start, self.place = self.place, self.place + size
        return self.content[start : self.place]

    def read(self, size: int) -> bytes:
        """The next bytes."""
        return bytes(self.view(size))

    def readinto(self, buffer: Any) -> int:
        """The next bytes into a buffer."""
        buffer[:] = self.view(len(buffer))
        return len(buffer)

    def readline(self) -> bytes:
        """Up to the next line break."""
        obj = cast(mmap.mmap, self.content.obj)
        end = obj.find(b"\n", self.place)
        return self.read((end + 1 if end >= 0 else len(self.content)) - self.place)


_Base: Any = pickle._Unpickler  # the unpickler in Python, whose steps can be replaced
_Step = Callable[[Any], None]


class _Unpickler(_Base):  # type: ignore[misc]
    dispatch: ClassVar[dict[int, _Step]] = dict(_Base.dispatch)

    def __init__(self, reader: _Reader) -> None:
        super().__init__(reader, encoding="latin1")
        self.reader = reader
        self.names: dict[int, list[int]] = {}  # where the memo holds arrays that are still to come

    def load(self) -> Any:
        """The content; frames are contiguous in a file, so that nothing has to be put together."""
        self.read, self.readinto, self.readline = self.reader.read, self.reader.readinto, self.reader.readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        steps, read = self.dispatch, self.reader.read
        try:
            while True:
                steps[read(1)[0]](self)
        except pickle._Stop as stop:  # type: ignore[attr-defined]
            return stop.value

    def find_class(self, module: str, name: str) -> Any:
        """One of the stand-ins, or a refusal."""
        allowed = ALLOWED.get((module, name))
        if allowed is None:
            raise Refused(f"{module}.{name}"[:200])
        return allowed

    def frame(self) -> None:
        """A frame's size tells nothing that the file's own size does not."""
        self.reader.read(8)

    def large_bytes(self, size: int) -> None:
        """Bytes, or a view of many."""
        self.append(self.reader.view(size) if size >= _VIEWED else self.reader.read(size))

    def byte_array(self, size: int) -> None:
        """Bytes that can be changed, or a view of many."""
        self.append(self.reader.view(size) if size >= _VIEWED else bytearray(self.reader.view(size)))

    def python2_text(self, size: int) -> None:
        """Text of Python 2, which may be the bytes of an array."""
        if size >= _VIEWED:
            self.append(self.reader.view(size))
        else:
            self.append(self.reader.read(size).decode("latin1"))

    def build(self) -> None:
        """An array's state makes the array; no other state is set on anything."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Dtype):
            target.set_state(state)
        elif isinstance(target, Pending):
            self.stack[-1] = array = array_of_state(state)
            for name in self.names.pop(id(target), ()):
                self.memo[name] = array
        elif state and state != (None, {}):
            raise Refused(f"a state of a {type(target).__name__}")

    def remember(self, name: int) -> None:
        """Put what is on top into the memo."""
        self.memo[name] = self.stack[-1]
        if isinstance(self.stack[-1], Pending):
            self.names.setdefault(id(self.stack[-1]), []).append(name)

    def set_items(self) -> None:
        """Pairs of a mapping."""
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Refused(f"items of a {type(target).__name__}")
        for i in range(0, len(items), 2):
            target[checked_key(items[i])] = own_bytes(items[i + 1])

    def set_item(self) -> None:
        """One pair of a mapping."""
        value, key = self.stack.pop(), self.stack.pop()
        if not isinstance(self.stack[-1], dict):
            raise Refused(f"items of a {type(self.stack[-1]).__name__}")
        self.stack[-1][checked_key(key)] = own_bytes(value)

    def make_dict(self) -> None:
        """A mapping from pairs."""
        items = self.pop_mark()
        self.append({checked_key(items[i]): own_bytes(items[i + 1]) for i in range(0, len(items), 2)})

    def add_items(self) -> None:
        """Members of a set."""
        items = self.pop_mark()
        if not isinstance(self.stack[-1], set):
            raise Refused(f"members of a {type(self.stack[-1]).__name__}")
        self.stack[-1].update(checked_set(items))

    def make_frozenset(self) -> None:
        """A set that does not change."""
        items = self.pop_mark()
        self.append(checked_frozenset(items))

    def append_one(self) -> None:
        """An item of a list."""
        value = self.stack.pop()
        if not isinstance(self.stack[-1], list):
            raise Refused(f"items of a {type(self.stack[-1]).__name__}")
        self.stack[-1].append(own_bytes(value))

    def append_all(self) -> None:
        """Items of a list."""
        items = self.pop_mark()
        if not isinstance(self.stack[-1], list):
            raise Refused(f"items of a {type(self.stack[-1]).__name__}")
        self.stack[-1].extend(map(own_bytes, items))

    def call(self) -> None:
        """A stand-in with its arguments."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple) or not any(function is allowed for allowed in CALLED):
            raise Refused("a call of something that is none of the plain types")
        self.append(function(*arguments))

    def instance(self) -> None:
        """An object as Python 2 writes it: its class by name, then its arguments."""
        module, name = (self.reader.readline()[:-1].decode("ascii", "replace") for _ in range(2))
        arguments = self.pop_mark()
        self.stack += [self.find_class(module, name), tuple(arguments)]
        self.call()

    def refuse(self) -> None:
        """A step that no file of plain data needs."""
        raise Refused("an object of a class")


_SIZES = {
    pickle.BINBYTES: ("<I", _Unpickler.large_bytes),
    pickle.SHORT_BINBYTES: ("<B", _Unpickler.large_bytes),
    pickle.BINBYTES8: ("<Q", _Unpickler.large_bytes),
    pickle.BYTEARRAY8: ("<Q", _Unpickler.byte_array),
    pickle.BINSTRING: ("<i", _Unpickler.python2_text),
    pickle.SHORT_BINSTRING: ("<B", _Unpickler.python2_text),
}


def _sized(form: str, take: Callable[[Any, int], None]) -> _Step:
    size = struct.calcsize(form)

    def step(unpickler: Any) -> None:
        take(unpickler, struct.unpack(form, unpickler.reader.read(size))[0])

    return step


def _named(form: str) -> _Step:
    size = struct.calcsize(form)

    def step(unpickler: Any) -> None:
        unpickler.remember(struct.unpack(form, unpickler.reader.read(size))[0])

    return step


_Unpickler.dispatch |= {code[0]: _sized(form, take) for code, (form, take) in _SIZES.items()}
_Unpickler.dispatch |= {
    pickle.FRAME[0]: _Unpickler.frame,
    pickle.BUILD[0]: _Unpickler.build,
    pickle.MEMOIZE[0]: lambda unpickler: unpickler.remember(len(unpickler.memo)),
    pickle.BINPUT[0]: _named("<B"),
    pickle.LONG_BINPUT[0]: _named("<I"),
    pickle.PUT[0]: lambda unpickler: unpickler.remember(int(unpickler.reader.readline()[:-1])),
    pickle.SETITEM[0]: _Unpickler.set_item,
    pickle.SETITEMS[0]: _Unpickler.set_items,
    pickle.DICT[0]: _Unpickler.make_dict,
    pickle.ADDITEMS[0]: _Unpickler.add_items,
    pickle.FROZENSET[0]: _Unpickler.make_frozenset,
    pickle.APPEND[0]: _Unpickler.append_one,
    pickle.APPENDS[0]: _Unpickler.append_all,
    pickle.REDUCE[0]: _Unpickler.call,
    pickle.NEWOBJ[0]: _Unpickler.call,
    pickle.NEWOBJ_EX[0]: _Unpickler.refuse,
    pickle.INST[0]: _Unpickler.instance,
    pickle.OBJ[0]: _Unpickler.refuse,
}


def release_pages() -> None:
    """Give back the memory of pages of mapped pickles that were read; reading them again reads the file again.

    Who goes through the arrays of a file larger than memory calls this on the way.
    """
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        for mapped in list(_MAPPED):
            mapped.madvise(mmap.MADV_DONTNEED)


def load_pickle(path: str | Path) -> Any:
    """The content of a pickle of NumPy arrays and plain containers, of Python 2 or 3; nothing in it is run.

    Arrays are read-only views of the mapped file where that is possible. Byte strings of Python 2 come as text
    (Latin-1).

    Errors:
        PaSEError: the file names anything else (the sentence says what), or is no whole pickle.
    """
    try:
        with Path(path).open("rb") as file:
            # the mapping lives as long as an array that is a view of it
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _MAPPED.add(mapped)
            content = _Unpickler(_Reader(memoryview(mapped))).load()
        if is_container(content) and extent(content) > _EXPANSION * max(len(mapped), 1 << 20):
            raise PaSEError(
                f"{path} refers to parts of itself again and again, so that it stands for far more than its size; "
                "write every part out."
            )
        return content
    except PaSEError:
        raise
    except Refused as refusal:
        raise PaSEError(
            f"{path} was to hold arrays and plain containers, but it asks for {refusal}; nothing was run: "
            "get the file from its publisher, or save its arrays with numpy.save as a folder of arrays."
        ) from None
    except FileNotFoundError as error:
        raise PaSEError(f"There is no {path}; give the pickle that holds the data.") from error
    except Exception as error:  # garbage can raise anything: KeyError, UnicodeError, MemoryError, ...
        raise PaSEError(
            f"{path} was to be a pickle, but it is damaged or cut short ({type(error).__name__}: {str(error)[:200]}); "
            "download or write it again."
        ) from error

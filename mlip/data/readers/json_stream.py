"""Reading of a large JSON object member by member, so that memory holds one member and not the file.

Several objects in sequence (JSON lines, files joined by `cat`) are read as one. Anything else after an object is an
error, so that no part of a file is silently left out.

A scanner over bytes finds where each member ends by counting brackets outside strings, block by block. A member is
decoded only then, and other processes may do it. msgspec decodes; it refuses the bare `NaN` of ALEXANDRIA's files (as
ijson and simdjson do), and such a member goes to Python's own decoder, which accepts it and is three times slower.
"""

import json
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from mlip.data.readers.streams import OnBytes, read_blocks
from mlip.errors import MlipError

MAX_VALUE_BYTES = 1 << 30
"""Size in bytes above which a member is not a material, so that the file does not have the expected layout."""

_OPEN, _CLOSE, _QUOTE, _BACKSLASH = 1, -1, 2, 3
_KIND_OF = dict(zip(map(ord, '[{]}"\\'), (_OPEN, _OPEN, _CLOSE, _CLOSE, _QUOTE, _BACKSLASH), strict=True))
_KINDS = bytes(_KIND_OF.get(byte, 0) % 256 for byte in range(256))
"""Table for bytes.translate: the kind of each character for the scanner; 0 for all others."""
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in _KIND_OF)
"""Characters for bytes.translate to delete: all that are not brackets, quotes or backslashes."""

_DEEPEST = 2
"""Largest depth at which members end: 1 in the object, 2 in its list of entries."""

_SCALAR = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s,:\[\]{}"]+', re.DOTALL)


class NotJsonError(MlipError):
    """A member with matching brackets is not valid JSON."""


class Member(NamedTuple):
    """A member of the object, or an item of its list "entries", not yet decoded."""

    key: str
    text: bytes
    position: int
    """Offset of the text in the (decompressed) file, bytes."""
    after: str | None
    """Name of the last complete member before this one."""


def members(path: Path, on_bytes: OnBytes | None = None) -> Iterator[tuple[str, Any]]:
    """Pairs (key, value) of the JSON objects in a file; a member `"entries": [...]` gives ("entries", item) for each
    item of the list.

    Raises:
        MlipError: the file is unreadable or truncated, or is not a JSON object; the last complete member is named.
    """
    for member in raw_members(path, on_bytes):
        yield member.key, decoded(member, path)


def raw_members(path: Path, on_bytes: OnBytes | None = None) -> Iterator[Member]:
    """Undecoded members of the JSON objects in a file, in the order of `members`.

    Raises:
        MlipError: the file is unreadable or truncated, or is not a JSON object. `decoded` finds faults inside members.
    """
    window = _Window(path, on_bytes)
    yield from _members_of_object(window, "a JSON object")
    while not window.is_at_end():
        yield from _members_of_object(window, "another JSON object or the end")


def _members_of_object(window: "_Window", what: str) -> Iterator[Member]:
    window.expect(b"{", what)
    while window.peek() != b"}":
        key = window.key()
        window.expect(b":", "':' after a key")
        if key == "entries" and window.peek() == b"[":
            yield from _items(window)
        else:
            yield window.member(key, depth=1)
            window.last = key
        window.comma_before(b"}")
    window.expect(b"}", "the object's end")


def _items(window: "_Window") -> Iterator[Member]:
    window.expect(b"[", "a list")
    while window.peek() != b"]":
        item = window.member("entries", depth=2)
        yield item
        window.last = _entry_id(item.text)
        window.comma_before(b"]")
    window.expect(b"]", "the list's end")


def decoded(member: Member, path: Path) -> Any:
    """Decoded value of a member.

    Raises:
        NotJsonError: the member is not JSON.
    """
    try:
        return msgspec.json.decode(member.text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(member.text.decode())
    except json.JSONDecodeError as error:
        at, why = member.position + error.pos, error.msg
    except UnicodeDecodeError as error:
        at, why = member.position + error.start, f"not UTF-8 text: {error.reason}"
    except (ValueError, RecursionError) as error:
        at, why = member.position, str(error)
    error = _error(path, f"not JSON ({why})", at, member.after)
    raise NotJsonError(error.what, where=error.where)


def _entry_id(text: bytes) -> str:
    """First "entry_id" in the text of an entry, which need not be JSON; for messages only."""
    found = re.search(rb'"entry_id"\s*:\s*"([^"\\]*)"', text)
    return found[1].decode(errors="replace") if found else "?"


def _error(path: Path, what: str, at: int, last: str | None, fix: str | None = None) -> MlipError:
    after = f"last complete material: {last}" if last else "before the first complete material"
    return MlipError(f"{what} at byte {at:,}; {after}", where=str(path), fix=fix)


class _Window:
    """Bytes from the current position on, as far as they have been read."""

    def __init__(self, path: Path, on_bytes: OnBytes | None):
        self._path = path
        self._blocks = read_blocks(path, on_bytes)
        self._brackets = _Brackets()
        self._text = b""
        self._at = 0
        self._dropped = 0
        self._ended = False
        self.last: str | None = None
        """Name of the last complete member."""

    def _extend(self) -> None:
        """Read one more block, if there is one, and forget the text before the current position."""
        try:
            block = next(self._blocks, None)
        except MlipError as error:
            raise self._error(error.what, fix=error.fix) from None
        if block is None:
            self._ended = True
            return
        if not self._dropped and not self._text:
            block = block.removeprefix(b"\xef\xbb\xbf")
        self._brackets.scan(block)
        self._text = self._text[self._at :] + block
        self._dropped += self._at
        self._at = 0

    def peek(self) -> bytes:
        """Next character that is not white space."""
        if self.is_at_end():
            raise self._error("the JSON text ends early", fix="a truncated file? fetch or copy it again")
        return self._text[self._at : self._at + 1]

    def is_at_end(self) -> bool:
        """Whether only white space is left."""
        while True:
            while (character := self._text[self._at : self._at + 1]) and character in b" \t\r\n":
                self._at += 1
            if character or self._ended:
                return not character
            self._extend()

    def expect(self, character: bytes, what: str) -> None:
        if (found := self.peek()) != character:
            raise self._error(f"expected {what}, found {found.decode(errors='replace')!r}")
        self._at += 1

    def comma_before(self, end: bytes) -> None:
        """Skip the comma between members; before `end`, after the last member, there is none."""
        if self.peek() != end:
            self.expect(b",", f"',' or '{end.decode()}'")
            if self.peek() == end:
                raise self._error(f"expected a value, found {end.decode()!r}")

    def key(self) -> str:
        if self.peek() != b'"':
            raise self._error("expected a key")
        return str(decoded(self.member("", depth=1), self._path))

    def member(self, key: str, depth: int) -> Member:
        """Read the value that begins here, inside `depth` brackets."""
        self.peek()
        begin = self._dropped + self._at
        end = self._bracketed(depth) if self.peek() in b"[{" else self._scalar()
        text = self._text[self._at : end - self._dropped]
        self._at = end - self._dropped
        return Member(key, text, begin, self.last)

    def _bracketed(self, depth: int) -> int:
        """Position after the bracket that closes the value. Blocks are joined only once it is found, so that a value of
        many blocks is not copied many times."""
        pieces, size = [self._text[self._at :]], len(self._text) - self._at
        begin = self._dropped + self._at
        while (end := self._brackets.end_after(begin, depth)) is None:
            if size > MAX_VALUE_BYTES:
                raise self._error("a value of more than 1 GB, which no material has")
            self._dropped, self._text, self._at = begin + size, b"", 0
            self._extend()
            if self._ended:
                raise self._error("the JSON text ends early", fix="a truncated file? fetch or copy it again")
            pieces.append(self._text)
            size += len(self._text)
        self._dropped, self._text, self._at = begin, b"".join(pieces), 0
        return end

    def _scalar(self) -> int:
        """Position after the string, number or word that begins here."""
        while True:
            found = _SCALAR.match(self._text, self._at)
            if found and (found.end() < len(self._text) or self._ended):
                return self._dropped + found.end()
            if self._ended:
                raise self._error("not JSON")
            if len(self._text) - self._at > MAX_VALUE_BYTES:
                raise self._error("a value of more than 1 GB, which no material has")
            self._extend()

    def _error(self, what: str, fix: str | None = None) -> MlipError:
        return _error(self._path, what, self._dropped + self._at, self.last, fix)


class _Brackets:
    """Positions at which the outer brackets of a text close, where the text comes in blocks."""

    def __init__(self) -> None:
        self._position = self._depth = self._in_string = 0
        self._after_backslash = False
        self._closings: dict[int, deque[int]] = {depth: deque() for depth in range(1, _DEEPEST + 1)}

    def end_after(self, begin: int, depth: int) -> int | None:
        """Position after the first bracket behind `begin` that closes to `depth`; None if it has not been seen yet."""
        for closings in self._closings.values():
            while closings and closings[0] <= begin:
                closings.popleft()
        return self._closings[depth][0] if self._closings[depth] else None

    def scan(self, block: bytes) -> None:
        structure = block.translate(None, _NOT_STRUCTURE)
        if self._in_string:
            structure = b'"' + structure
        # A string without brackets leaves two adjacent quotes; quotes that are left belong to other strings.
        brackets = structure.replace(b'""', b"")
        ends_in_string = brackets[-1:] == b'"'
        if ends_in_string:
            brackets = brackets[:-1]
        if self._after_backslash or b'"' in brackets or b"\\" in brackets:
            self._scan_strings(block)
            return
        steps = np.frombuffer(brackets.translate(_KINDS), np.int8)
        depths = self._depth + np.cumsum(steps, dtype=np.int64)
        outer = np.flatnonzero((steps == _CLOSE) & (depths <= _DEEPEST))
        if len(outer):
            places = np.flatnonzero(np.frombuffer(block, np.uint8) | 0x20 == ord("}"))  # "]" lacks this bit of "}"
            closings_before = np.cumsum(steps == _CLOSE) - 1
            self._note(places[closings_before[outer]], depths[outer])
        self._end_block(block, depths, ends_in_string)

    def _scan_strings(self, block: bytes) -> None:
        """Scan a block in which strings may contain brackets, quotes or backslashes."""
        kinds = np.frombuffer(bytearray(block.translate(_KINDS)), np.int8)
        if self._after_backslash or b"\\" in block:
            self._forget_escaped(kinds)
        places = np.flatnonzero(kinds.view(np.bool_))
        kinds = kinds[places]
        brackets = np.flatnonzero(kinds != _QUOTE)
        quotes_before = brackets - np.arange(len(brackets)) + self._in_string
        steps = np.where(quotes_before % 2 == 0, kinds[brackets], 0)
        depths = self._depth + np.cumsum(steps, dtype=np.int64)
        is_outer = (steps == _CLOSE) & (depths <= _DEEPEST)
        self._note(places[brackets[is_outer]], depths[is_outer])
        self._end_block(block, depths, bool((self._in_string + len(kinds) - len(brackets)) % 2))

    def _note(self, places: np.ndarray, depths: np.ndarray) -> None:
        for place, depth in zip(places.tolist(), depths.tolist(), strict=True):
            if depth in self._closings:
                self._closings[depth].append(self._position + place + 1)

    def _end_block(self, block: bytes, depths: np.ndarray, ends_in_string: bool) -> None:
        self._in_string = int(ends_in_string)
        if len(depths):
            self._depth = int(depths[-1])
        self._position += len(block)

    def _forget_escaped(self, kinds: np.ndarray) -> None:
        """Turn backslashes, and the characters that they escape, into ordinary characters."""
        escaped = 0 if self._after_backslash else -1
        for place in np.flatnonzero(kinds == _BACKSLASH).tolist():
            if place != escaped:
                escaped = place + 1
                kinds[escaped : escaped + 1] = 0
        if self._after_backslash:
            kinds[0] = 0
        kinds[kinds == _BACKSLASH] = 0
        self._after_backslash = escaped == len(kinds)

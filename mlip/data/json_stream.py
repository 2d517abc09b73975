"""A large JSON object, member by member: memory holds one member, not the file.

Python's own decoder over a sliding window of text. It takes the bare `NaN` of ALEXANDRIA's files, which
strict parsers (ijson, orjson, simdjson) refuse.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlip.data.streams import OnBytes, read_text
from mlip.errors import MlipError

MAX_VALUE_CHARACTERS = 1 << 30
"""A member longer than this is not a material: the text is not of the expected layout."""

_TOKEN = 16
"""No token that the end of the window may have cut ('-Infinity', a \\u escape) is longer, strings apart."""


def members(path: Path, on_bytes: OnBytes | None = None) -> Iterator[tuple[str, Any]]:
    """(key, value) of the JSON object in a file; for a member `"entries": [...]`, ("entries", item) for each
    item of the list.

    Raises:
        MlipError: unreadable or truncated file, or no JSON object; the last complete member is named.
    """
    window = _Window(path, on_bytes)
    window.expect("{", "a JSON object")
    while window.peek() != "}":
        key = window.value()
        window.expect(":", "':' after a key")
        if key == "entries" and window.peek() == "[":
            yield from (("entries", item) for item in _items(window))
        else:
            value = window.value()
            window.last = str(key)
            yield key, value
        window.comma_before("}")


def _items(window: "_Window") -> Iterator[Any]:
    window.expect("[", "a list")
    while window.peek() != "]":
        item = window.value()
        window.last = str(item.get("entry_id", "?")) if isinstance(item, dict) else "?"
        yield item
        window.comma_before("]")
    window.expect("]", "the list's end")


class _Window:
    """The text from the current position on, as far as it has been read."""

    def __init__(self, path: Path, on_bytes: OnBytes | None):
        self._path = path
        self._blocks = read_text(path, on_bytes)
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._dropped = 0
        self._ended = False
        self.last: str | None = None
        """Key of the last complete member."""

    def _extend(self, size: int = 1) -> None:
        """Read at least `size` more characters, if there are any, and forget the text before."""
        pieces = [self._text[self._at :]]
        try:
            while size > 0:
                pieces.append(next(self._blocks))
                size -= len(pieces[-1])
        except StopIteration:
            self._ended = True
        except MlipError as error:
            raise self._error(error.what, fix=error.fix) from None
        self._dropped += self._at
        self._text, self._at = "".join(pieces), 0
        if len(self._text) > MAX_VALUE_CHARACTERS:
            raise self._error("a value of more than 1 GB, which no material has")

    def peek(self) -> str:
        """The next character that is not white space."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                raise self._error("the JSON text ends early", fix="a truncated file? fetch or copy it again")
            self._extend()

    def expect(self, character: str, what: str) -> None:
        if (found := self.peek()) != character:
            raise self._error(f"expected {what}, found {found!r}")
        self._at += 1

    def comma_before(self, end: str) -> None:
        """Skip the comma between members; before the last one's `end` there is none."""
        if self.peek() != end:
            self.expect(",", f"',' or '{end}'")
            if self.peek() == end:
                raise self._error(f"expected a value, found {end!r}")

    def value(self) -> Any:
        """Decode the JSON value that begins here, reading on for as long as the window cuts it."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self._error(f"not JSON ({error.msg})", at=error.pos) from None
            except (ValueError, RecursionError) as error:
                raise self._error(f"not JSON ({error})") from None
            else:
                # A number at the window's end may go on.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            self._extend(size=len(self._text) - self._at)  # doubling: each character is decoded twice at most

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _TOKEN

    def _error(self, what: str, at: int | None = None, fix: str | None = None) -> MlipError:
        position = self._dropped + (self._at if at is None else at)
        last = f"last complete material: {self.last}" if self.last else "before the first complete material"
        return MlipError(f"{what} at character {position:,}; {last}", where=str(self._path), fix=fix)

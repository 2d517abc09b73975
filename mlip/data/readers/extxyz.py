"""Extended XYZ, frame by frame: a faulty frame is a fault of its own, and reading goes on after it.

ASE's reader seeks to each frame, which for a .gz file means to decompress from the start (20 to 300 times slower), so
it is given the text of one frame at a time. Labels in the comment line are hidden from ASE, which would refuse a frame
with `energy=None` or a stress of six numbers; `mlip.data.readers.labels` interprets them.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io.extxyz import key_val_str_to_dict, per_config_properties, read_xyz

from mlip.data.readers.labels import with_fortran_exponents
from mlip.data.readers.streams import OnBytes, read_lines
from mlip.data.records import MalformedError
from mlip.data.structures import HEAVY_HYDROGEN

EXTXYZ = (".extxyz", ".xyz", ".extxyz.gz", ".xyz.gz", ".extxyz.bz2", ".xyz.bz2")
"""Endings of extended XYZ files."""

_QUOTED = r""" "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | \{[^}]*\} | \[[^\]]*\] """
_HIDDEN = "mlip-label-"
_LABEL = re.compile(rf"{_QUOTED} | (?<!\S)({'|'.join(['virial', *per_config_properties])})(?=\s*=|\s|$)", re.VERBOSE)
"""Pattern of a label's name outside quotes."""

_ONLY_A_NUMBER = re.compile(r"\s*\d+\s*$").match
_VALUE = r"\s*=\s*(\"[^\"]*\"|'[^']*'|\S+)"
_HEAVY = re.compile(rf"^(\s*)(?:{'|'.join(HEAVY_HYDROGEN)})(?=\s)", re.MULTILINE)
_MASS_OF_DEUTERIUM = 2.014


class FrameBlock(NamedTuple):
    """Lines of one frame, or faulty lines in the place of one."""

    index: int
    lines: Sequence[str]
    fault: MalformedError | None = None

    def atoms(self) -> Atoms | MalformedError:
        """The structure, or the fault if there is none."""
        if self.fault is not None:
            return self.fault
        try:
            return _parsed("".join(self.lines))
        except Exception:  # ASE's parser lets through whatever numpy and it stumble on
            return self._atoms_of_other_programs()

    def _atoms_of_other_programs(self) -> Atoms | MalformedError:
        try:
            return _parsed_again(self.lines)
        except Exception as error:
            return MalformedError("not extended XYZ", f"frame {self.index}: {error}")

    def own_id(self, keys: Sequence[str]) -> str | None:
        """Text of the first of the keys that the comment line has; None if it has none of them."""
        comment = self.lines[1] if len(self.lines) > 1 else ""
        for key in keys:
            if key in comment and (found := re.search(rf"(?<!\S){key}{_VALUE}", comment)):
                return found[1].strip("\"'")
        return None


def ids_of_blocks(path: Path, keys: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Index and id of each frame that has an id; the lines of atoms are not parsed."""
    for block in frame_blocks(path):
        if (own_id := block.own_id(keys)) is not None:
            yield block.index, own_id


def frame_blocks(path: Path, on_bytes: OnBytes | None = None) -> Iterator[FrameBlock]:
    """Frames of a file. After a frame whose number of lines does not match its number of atoms, reading goes on at the
    next line that can start a frame.

    Raises:
        MlipError: the file cannot be read.
    """
    lines = _Lines(path, on_bytes)
    index = 0
    while (header := lines.next_that_says_something()) is not None:
        if not header.strip().isdecimal():
            found = f"frame {index}: a number of atoms expected, found {header.strip()[:40]!r}"
            yield FrameBlock(index, (header,), MalformedError("not extended XYZ", found))
            lines.skip_to_header()
        else:
            text = [header, *lines.take(1 + int(header))]
            fault = lines.fault_of(text, index)
            yield FrameBlock(index, text, fault)
            if fault is not None:
                lines.put_back(text[2:])
                lines.skip_to_header()
        index += 1


class _Lines:
    """Lines of a file, which can also be put back."""

    def __init__(self, path: Path, on_bytes: OnBytes | None):
        self._file = read_lines(path, on_bytes)
        self._before: deque[str] = deque()

    def _next(self) -> str | None:
        return self._before.popleft() if self._before else next(self._file, None)

    def take(self, n: int) -> list[str]:
        """The next `n` lines, or as many as are left."""
        found = [self._before.popleft() for _ in range(min(n, len(self._before)))]
        return found + list(islice(self._file, n - len(found)))

    def put_back(self, lines: Sequence[str]) -> None:
        self._before.extendleft(reversed(lines))

    def next_that_says_something(self) -> str | None:
        while (line := self._next()) is not None:
            if line.strip():
                return line
        return None

    def skip_to_header(self) -> None:
        """Skip to the next line that is a single integer, which no line of an atom is."""
        while (line := self._next()) is not None:
            if line.strip().isdecimal():
                self.put_back((line,))
                return

    def fault_of(self, text: Sequence[str], index: int) -> MalformedError | None:
        """Fault of a frame whose number of lines is wrong, else None. The line after a frame must start another one."""
        n_atoms = int(text[0])
        where = f"frame {index}"
        if len(text) < 2 + n_atoms or (n_atoms and not text[-1].strip()):
            return MalformedError("the file ends within this frame", f"{where}: a truncated file?")
        if any(map(_ONLY_A_NUMBER, text[2:])):
            return MalformedError("not extended XYZ", f"{where}: fewer lines than its {n_atoms} atoms")
        behind = self.take(1)
        self.put_back(behind)
        if behind and behind[0].strip() and not behind[0].strip().isdecimal():
            return MalformedError("not extended XYZ", f"{where}: more lines than its {n_atoms} atoms")
        return None


def _parsed(text: str) -> Atoms:
    """Parse a frame. Labels in its comment line become results of its calculator, uninterpreted."""
    atoms = next(read_xyz(StringIO(text), 0, properties_parser=_properties))
    labels = {key: atoms.info.pop(key) for key in list(atoms.info) if key.startswith(_HIDDEN)}
    if labels:
        atoms.calc = atoms.calc or Calculator()
        atoms.calc.results |= {key.removeprefix(_HIDDEN): value for key, value in labels.items()}
    return atoms


def _properties(comment: str) -> dict:
    return key_val_str_to_dict(_LABEL.sub(lambda found: (_HIDDEN if found[1] else "") + found[0], comment))


def _parsed_again(lines: Sequence[str]) -> Atoms:
    """Parse a frame that ASE refuses, with Fortran's exponents and the symbols of hydrogen's isotopes replaced."""
    rows = "".join(lines[2:])
    numbered = with_fortran_exponents(rows)
    atoms = _parsed("".join([*lines[:2], _HEAVY.sub(r"\1H", numbered)]))
    is_heavy = [_HEAVY.match(line) is not None for line in lines[2:]]
    if any(is_heavy):
        masses = atoms.get_masses()
        masses[is_heavy] = _MASS_OF_DEUTERIUM
        atoms.set_masses(masses)
    return atoms

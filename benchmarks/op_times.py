"""Where the time of a compiled JAX program goes: by kind of operation, and by part of the model.

From a profiler trace: XLA names each operation that it runs, and the program's text says what the operation is (a
fusion is what its most expensive member is) and which flax module it came from.
"""

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData

_KINDS = ("dot", "convolution", "scatter", "gather", "sort", "reduce-window", "reduce")
"""A fusion, or a call, is named after the first of these that it holds; else it is elementwise."""
_NAMES = {"dot": "matrix product", "convolution": "matrix product", "reduce-window": "reduce"}
_LIBRARY_PRODUCTS = ("gemm", "matmul", "dot")
_CONTAINERS = ("while", "conditional")

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (?:\(.*?\)|\S+) ([\w\-]+)\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_SOURCE = re.compile(r'op_name="([^"]*)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')


class Operation(NamedTuple):
    """An instruction of the compiled program."""

    kind: str
    module: str
    """The flax module, without the numbers of blocks."""
    is_backward: bool


def time_shares(compiled: Any, run: Callable[[], Any]) -> dict[str, dict[str, float]]:
    """Shares of the time of all operations: {"kind": {...}, "module": {...}}, largest first.

    Args:
        compiled: of `jax.jit(...).lower(...).compile()`.
        run: calls that program once or more, and returns when it is done.
    """
    operations = read_program(compiled.as_text())
    seconds = trace(run)
    shares: dict[str, dict[str, float]] = {"kind": defaultdict(float), "module": defaultdict(float)}
    for name, time in seconds.items():
        operation = operations.get(name, Operation("unknown", "unknown", False))
        if operation.kind in _CONTAINERS:  # their bodies are there too
            continue
        shares["kind"][operation.kind] += time
        shares["module"][operation.module + (" (backward)" if operation.is_backward else "")] += time
    return {by: _normalized(times) for by, times in shares.items()}


def _normalized(times: dict[str, float]) -> dict[str, float]:
    total = sum(times.values())
    return {name: time / total for name, time in sorted(times.items(), key=lambda item: -item[1])}


def trace(run: Callable[[], Any]) -> dict[str, float]:
    """Seconds in each operation, by its name in the compiled program."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = Path(folder).rglob("*.xplane.pb")
        profile = ProfileData.from_file(str(path))
    seconds: dict[str, float] = defaultdict(float)
    for plane in profile.planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op")
                if name is not None:
                    seconds[str(name)] += event.duration_ns / 1e9
    return dict(seconds)


def read_program(text: str) -> dict[str, Operation]:
    """The instructions of a compiled program's text, by name."""
    lines: dict[str, tuple[str, str, str]] = {}  # name -> opcode, computation, line
    members: dict[str, list[str]] = defaultdict(list)
    computation = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
        elif instruction := _INSTRUCTION.match(line):
            name, opcode = instruction.groups()
            lines[name] = (opcode, computation, line)
            members[computation].append(name)

    def opcodes(name: str) -> set[str]:
        opcode, _, line = lines[name]
        if opcode == "custom-call":
            target = _TARGET.search(line)
            return {"dot" if target and any(word in target[1].lower() for word in _LIBRARY_PRODUCTS) else "custom call"}
        if opcode not in ("fusion", "call"):
            return {opcode}
        return set().union(*(opcodes(inner) for called in _CALLED.findall(line) for inner in members[called]))

    def operation(name: str) -> Operation:
        found = opcodes(name)
        kind = next((kind for kind in _KINDS if kind in found), None)
        if kind is None:
            single = lines[name][0]
            kind = single if single in (*_CONTAINERS, "custom call") else "elementwise"
        source = _SOURCE.search(lines[name][2])
        return Operation(_NAMES.get(kind, kind), *_module(source[1] if source else ""))

    return {name: operation(name) for name in lines}


def _module(source: str) -> tuple[str, bool]:
    """(module, whether in a backward pass) of "jit(f)/transpose(jvp(Model))/convolution_0/bond_message/mul"."""
    parts = source.split("/")
    model = next((k for k, part in enumerate(parts) if "jvp(" in part), None)
    if model is None:
        return "around the model", False
    modules = [re.sub(r"_\d+$", "", part) for part in parts[model + 1 : -1] if re.fullmatch(r"[a-z]\w*", part)]
    return "/".join(modules[:2]) or "outermost module", "transpose(" in parts[model]

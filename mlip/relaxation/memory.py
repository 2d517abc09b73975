"""How much memory a program may take on the host.

A GPU refuses what does not fit; an operating system promises memory that it does not have and then kills whoever
uses it, so that on a CPU one has to ask first.
"""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> float:
    """Bytes that can be used without swapping, within a container's limit; infinite where the system does not tell."""
    return min(_of_machine(), _of_container())


def _of_machine() -> float:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:  # not Linux
        return float("inf")
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "inf")
    return 1024 * float(kilobytes)


def _of_container() -> float:
    """By cgroup 2; what its page cache holds counts as free."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        details = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return float("inf")
    return float("inf") if limit == "max" else int(limit) - used + int(details.get("inactive_file", 0))

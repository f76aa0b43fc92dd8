"""What was measured on: the machine in a few words, the file system, and the processor time processes have taken."""

import os
import platform
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

_PROC = Path("/proc")


def describe_machine() -> dict[str, str]:
    """Processor, cores this process may use, memory, system and Python; `unknown` where the system does not say."""
    return {
        "cpu": _first_value("cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "ram": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _first_value(file: str, name: str) -> str | None:
    try:
        lines = (_PROC / file).read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _memory() -> str:
    kilobytes = _first_value("meminfo", "MemTotal")
    return f"{int(kilobytes.split()[0]) / 2**20:.0f} GiB" if kilobytes else "unknown"


def file_system(path: Path) -> str:
    """The type of the file system a path is on, such as ext4 or tmpfs: rates on memory are not rates on a disk."""
    best, kind = -1, "unknown"
    try:
        mounts = (_PROC / "mounts").read_text("utf-8").splitlines()
    except OSError:
        return kind
    for mount in mounts:
        _, at, found, *_ = mount.split(" ")
        if path.resolve().is_relative_to(at.replace("\\040", " ")) and len(at) >= best:
            best, kind = len(at), found
    return kind


def cpu_seconds(roots: Mapping[str, list[int]]) -> dict[str, float]:
    """Processor time that these processes and all their descendants have taken so far, by name; empty without /proc."""
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for entry in _PROC.glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:  # it ended in between
            continue
        children[int(fields[1])].append(int(entry.name))
        # Its own, user and system, and that of children it has waited for (proc_pid_stat(5), fields 14 to 17)
        ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    return (
        {
            name: sum(_tree(pid, children, ticks) for pid in pids) / os.sysconf("SC_CLK_TCK")
            for name, pids in roots.items()
        }
        if ticks
        else {}
    )


def _tree(pid: int, children: Mapping[int, list[int]], ticks: Mapping[int, int]) -> int:
    return ticks.get(pid, 0) + sum(_tree(child, children, ticks) for child in children.get(pid, ()))

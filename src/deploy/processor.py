"""What processor this is, as far as it decides how numbers are rounded and how fast they come."""

from __future__ import annotations

import platform
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "asimd", "sve")
"""Of /proc/cpuinfo, those that networks are computed with."""


def processor() -> dict[str, object]:
    """Return the processor's name and those of its flags that matter here; on Linux from /proc/cpuinfo."""
    lines: dict[str, str] = {}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            lines.setdefault(name.strip(), value.strip())
    there = lines.get("flags", lines.get("Features", "")).split()
    return {
        "name": lines.get("model name") or platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "flags": [flag for flag in FLAGS if flag in there],
    }


def shown(processor: dict[str, object]) -> str:
    """Return a processor in a few words."""
    flags = processor["flags"]
    assert isinstance(flags, list)
    best = [flag.upper() for flag in flags][-1:]
    return ", ".join([str(processor["name"]), *best])

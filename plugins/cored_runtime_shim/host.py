"""The host, as far as it decides which OCI runtime works on it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from cored.dataclass import dataclass

__all__ = ["Host"]

Layout = Literal["v2", "hybrid", "v1"]


@dataclass(frozen=True, slots=True)
class Host:
    """``unified`` are the controllers in a hybrid layout's v2 tree; ``kernel`` is (6, 1)."""

    layout: Layout
    unified: tuple[str, ...] = ()
    kernel: tuple[int, int] = (6, 1)
    kvm: bool = False
    ptrace: bool = True
    systemd: bool = False

    @classmethod
    def here(cls, root: Path = Path("/")) -> Host:
        """This host; ``root`` is where its filesystem is seen."""
        cgroup = root / "sys/fs/cgroup"
        hybrid = cgroup / "unified/cgroup.controllers"
        layout: Layout = "v1"
        if (cgroup / "cgroup.controllers").exists():
            layout = "v2"
        elif hybrid.exists():
            layout = "hybrid"
        return cls(
            layout,
            tuple(_text(hybrid).split()),
            _kernel(_text(root / "proc/sys/kernel/osrelease")),
            os.access(root / "dev/kvm", os.R_OK | os.W_OK),
            _text(root / "proc/sys/kernel/yama/ptrace_scope").strip() != "3",
            (root / "run/systemd/system").is_dir(),
        )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not every kernel has every file
        return ""


def _kernel(release: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)

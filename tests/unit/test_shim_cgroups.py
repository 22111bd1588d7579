"""What a shim removes of the cgroups that a runtime has left."""

from __future__ import annotations

from pathlib import Path

import pytest
from coreshim import fast


def test_a_forgotten_directory_that_is_no_cgroup_goes_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "_CGROUPS", f"{tmp_path}/")
    for controller in ("memory", "hugetlb"):
        (tmp_path / controller / "cored-1").mkdir(parents=True)
        (tmp_path / controller / "other").mkdir()
    (tmp_path / "hugetlb/cored-1/cgroup.procs").write_text("0\n")
    fast.remove_cgroups([f"{tmp_path}/memory/cored-1", f"{tmp_path}/cpu/cored-1"])
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    assert left == ["hugetlb/other", "memory/other"]


def test_what_holds_something_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_CGROUPS", f"{tmp_path}/")
    (tmp_path / "hugetlb/cored-1/inner").mkdir(parents=True)
    fast.remove_cgroups([f"{tmp_path}/memory/cored-1"])
    assert (tmp_path / "hugetlb/cored-1/inner").is_dir()

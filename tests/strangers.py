"""Plugins of strangers, as pip would install them: a folder for PYTHONPATH."""

from __future__ import annotations

from pathlib import Path

__all__ = ["installed"]


def installed(folder: Path, name: str, source: str) -> Path:
    """Write a plugin module with the entry point that names it; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(source)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[cored.plugins]\n{name} = {name}\n")
    return folder

"""Go's text templates, as far as people use them in ``--format``."""

from __future__ import annotations

from corectl.templates.program import Template

__all__ = ["Template"]

"""What one run of corectl compose knows: the session, and which project is meant."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corectl import colour
from corectl.compose.files import Request, find
from corectl.report import say
from cored.errors import NotFound

if TYPE_CHECKING:
    from corectl.compose.project import Project
    from corectl.session import Session

__all__ = ["Application"]

_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Application:
    """Travels as click's context object below ``compose``."""

    session: Session
    request: Request
    dry_run: bool = False
    ansi: str = "auto"
    progress: str = "auto"
    parallel: int = -1

    @property
    def width(self) -> int:
        """How many steps may be under way at once."""
        return self.parallel if self.parallel > 0 else _AT_ONCE

    @property
    def quiet(self) -> bool:
        """Whether steps are not told."""
        return self.progress == "quiet"

    @property
    def live(self) -> bool:
        """Whether steps are shown as they go on, on a terminal."""
        plain = self.dry_run or self.ansi == "never"
        return not plain and (
            self.progress == "tty" or (self.progress == "auto" and sys.stderr.isatty())
        )

    @property
    def coloured(self) -> bool:
        """Whether standard output takes colours."""
        return self.ansi == "always" or (self.ansi == "auto" and colour.coloured())

    def project(self, naming: Sequence[str] = ()) -> Project:
        """The project, with warnings about what its files leave open."""
        from corectl.compose.project import load

        project = load(self.request, naming=naming)
        for name in project.unset:
            say(f"warning: variable {name} is not set: an empty word is in its place")
        return project

    def name(self) -> str:
        """The project's name, also where nothing but the name is known. NotFound."""
        return self.found()[0]

    def found(self) -> tuple[str, Project | None]:
        """The name, and the project unless only the name was given and there is no file."""
        try:
            find(self.request)
        except NotFound:
            if self.request.files or not self.request.name:
                raise
            return self.request.name, None
        project = self.project()
        return project.name, project

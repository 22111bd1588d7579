"""One run of corectl: what went wrong becomes one line on stderr and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.exceptions import NoArgsIsHelpError

from corectl.report import failed, say
from corectl.session import Session
from corectl.tree import build

__all__ = ["main"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. 1 is a failure, 2 a wrong usage; run has codes of its own."""
    session = Session()
    try:
        code = build().main(
            arguments if arguments is None else list(arguments),
            prog_name="corectl",
            standalone_mode=False,
            obj=session,
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.UsageError as error:
        return _usage(error)
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # click makes the latter of the former; nothing more can be said there, not even by
        # the interpreter's last flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _BROKEN_PIPE
    except Exception as error:
        failed(error, debug=session.debug)
        return session.failure(error)
    finally:
        session.close()


def _usage(error: click.UsageError) -> int:
    if isinstance(error, NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
        return 2
    context = error.ctx
    path = "corectl" if context is None else context.command_path
    inner = path.removeprefix("corectl").strip()
    text = _text(error)
    say(f"{inner}: {text} (see: {path} --help)" if inner else f"{text} (see: {path} --help)")
    return 125 if inner.removeprefix("container ") in ("run", "create") else 2


def _text(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        from corectl import suggestions

        known = [name for param in error.ctx.command.params for name in param.opts]
        meant = suggestions.near(error.option_name, (one for one in known if one[:2] == "--"))
        return f"No such option '{error.option_name}'{suggestions.question(meant)}"
    return error.format_message().rstrip(".")

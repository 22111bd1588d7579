"""Exit codes and signals in words."""

from __future__ import annotations

import signal

from cored.engine.why.values import Cause

__all__ = ["ending", "signal_words"]

_SIGNALS = {
    "SIGHUP": "its terminal has gone, or it was to read its configuration anew",
    "SIGINT": "Ctrl-C, or somebody like it",
    "SIGQUIT": "Ctrl-\\, or somebody like it",
    "SIGILL": "it ran into an instruction that this CPU does not have",
    "SIGTRAP": "a breakpoint without a debugger",
    "SIGABRT": "it gave up by itself (abort, a failed assertion)",
    "SIGBUS": "it touched memory that is not behind its mapping",
    "SIGFPE": "it divided by zero, or the like",
    "SIGKILL": "killed from outside; a program cannot do anything about it",
    "SIGSEGV": "it touched memory that is not its own",
    "SIGPIPE": "it wrote where nobody reads",
    "SIGALRM": "its own alarm clock",
    "SIGTERM": "somebody asked it to end",
    "SIGXCPU": "it used up the CPU time that a ulimit gives it",
    "SIGXFSZ": "it wrote a file larger than a ulimit allows",
    "SIGSYS": "it made a system call that its seccomp filter answers with death",
}
_CODES = {
    1: "an error, as programs that fail say of themselves",
    2: "wrong usage, as many programs say",
    125: "what it ran in turn could not be started",
    126: "a command that cannot be run, as shells say",
    127: "a command that is not there, as shells say",
    255: "an error, or a code that is not between 0 and 255",
}


def signal_words(number: int) -> str:
    """``signal 11 (SIGSEGV): it touched memory that is not its own``."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    words = _SIGNALS.get(name)
    return f"signal {number} ({name}){f': {words}' if words else ''}"


def ending(status: int, *, signalled: bool | None) -> Cause:
    """An exit status; ``signalled`` is None where nobody knows."""
    number = status - 128
    if status > 128 and number < signal.NSIG and signalled is not False:
        kind = "seccomp" if number == signal.SIGSYS else "signal"
        hint = ""
        if number == signal.SIGSYS:
            hint = "--security-opt seccomp=unconfined, or a profile that allows the call"
        text = f"killed by {signal_words(number)}"
        return Cause(kind, text, hint, telling=number not in (signal.SIGINT, signal.SIGTERM))
    if status > 128 and number < signal.NSIG:
        return Cause(
            "exit",
            f"exit code {status}: as shells tell that what they ran was killed by"
            f" {signal_words(number)}",
        )
    words = _CODES.get(status, "")
    return Cause("exit", f"exit code {status}{f': {words}' if words else ''}")

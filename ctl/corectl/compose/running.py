"""A plan carried out: every step as soon as those before it are done."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from corectl.compose.steps import Action, Await, Plan, Step

__all__ = ["Cancelled", "Lines", "Perform", "Report", "run"]

Perform = Callable[[Action, threading.Event], str]


class Cancelled(Exception):
    """A step gave up, because another has failed."""


class Report(Protocol):
    """Hears of the steps, from several threads."""

    def say(self, action: Action, what: str) -> None:
        """``what`` is the action's ``doing``, or how it ended."""

    def hear(self, action: Action, line: str) -> None:
        """A line that the action's process wrote."""


class Lines:
    """Tells the steps on standard error, a line for each turn: plain, json, or quiet (none)."""

    def __init__(self, *, form: str = "plain", dry: bool = False) -> None:
        self._form = form
        self._dry = dry
        self._lock = threading.Lock()

    def say(self, action: Action, what: str) -> None:
        if self._form == "quiet":
            return
        line = f"{'DRY-RUN MODE - ' if self._dry else ''} {action.kind} {action.name}  {what}"
        if self._form == "json":
            told = {"id": f"{action.kind} {action.name}", "status": what}
            line = json.dumps({**told, "dry-run": True} if self._dry else told)
        self._print(line)

    def hear(self, action: Action, line: str) -> None:
        if self._form == "json":
            told = {"id": f"{action.kind} {action.name}", "text": line}
            self._print(json.dumps(told))
        elif self._form != "quiet":
            self._print(f"{action.name}  | {line}")

    def _print(self, line: str) -> None:
        with self._lock:
            print(line, file=sys.stderr)


def run(plan: Plan, perform: Perform, *, width: int, report: Report) -> None:
    """Do the steps, ``width`` at once at most (those that only wait do not count).

    ``perform`` does one and answers how it ended, where that is not the usual. After a failure no
    step begins; the first failure is raised when those that had begun are done. An interruption
    (KeyboardInterrupt) is raised at once.
    """
    _Run(plan, perform, width, report).go()


class _Run:
    def __init__(self, plan: Plan, perform: Perform, width: int, report: Report) -> None:
        self._plan, self._perform, self._report = plan, perform, report
        self._room = threading.BoundedSemaphore(width)
        self._cancelled = threading.Event()
        self._ended: queue.SimpleQueue[tuple[Step, BaseException | None]] = queue.SimpleQueue()

    def go(self) -> None:
        left = {step.number: set(step.after) for step in self._plan.steps}
        under_way = 0
        failure: BaseException | None = None
        try:
            while True:
                ready = [n for n, before in left.items() if not before] if not failure else []
                for number in ready:
                    del left[number]
                    self._begin(self._plan.steps[number])
                    under_way += 1
                if not under_way:
                    break
                step, error = self._ended.get()
                under_way -= 1
                if error is None:
                    for before in left.values():
                        before.discard(step.number)
                elif failure is None and not isinstance(error, Cancelled):
                    failure = error
                    self._cancelled.set()
        finally:
            self._cancelled.set()
        if failure is not None:
            raise failure

    def _begin(self, step: Step) -> None:
        threading.Thread(target=self._one, args=(step,), daemon=True).start()

    def _one(self, step: Step) -> None:
        try:
            if isinstance(step.action, Await):
                self._do(step)
            else:
                with self._room:
                    self._do(step)
        except BaseException as error:
            self._ended.put((step, error))
        else:
            self._ended.put((step, None))

    def _do(self, step: Step) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        if step.action.doing:
            self._report.say(step.action, step.action.doing)
        ending = self._perform(step.action, self._cancelled)
        self._report.say(step.action, ending or step.action.done)

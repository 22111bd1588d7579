"""``docker-credential-*``: programs that keep secrets, asked over stdin and stdout.

https://github.com/docker/docker-credential-helpers: the verb is the argument, get and erase read
the server's name, store reads JSON; what went wrong comes on stdout with exit code 1.
"""

from __future__ import annotations

import json
from typing import Any

from cored.errors import FailedPrecondition, NotFound

__all__ = ["Helper"]

_ABSENT = "credentials not found"
_TOKEN = "<token>"
_PATIENCE = 120.0  # seconds: it may ask its user for a passphrase


class Helper:
    """The program ``docker-credential-<name>``."""

    def __init__(self, name: str) -> None:
        self._program = f"docker-credential-{name}"

    def get(self, server: str) -> tuple[str, str, str] | None:
        """User name, password and identity token; None when it has none."""
        try:
            answer = self._object(self._run("get", server))
        except NotFound:
            return None
        username, secret = str(answer.get("Username", "")), str(answer.get("Secret", ""))
        return ("", "", secret) if username == _TOKEN else (username, secret, "")

    def store(self, server: str, username: str, password: str, token: str) -> None:
        """Keep a secret."""
        document = {
            "ServerURL": server,
            "Username": _TOKEN if token else username,
            "Secret": token or password,
        }
        self._run("store", json.dumps(document))

    def erase(self, server: str) -> bool:
        """Forget a secret; whether there was one."""
        try:
            self._run("erase", server)
        except NotFound:
            return False
        return True

    def list(self) -> dict[str, str]:
        """The user names by server."""
        return {str(k): str(v) for k, v in self._object(self._run("list", "")).items()}

    def _run(self, verb: str, text: str) -> str:
        import subprocess  # many have no such program

        try:
            done = subprocess.run(
                [self._program, verb], input=text, stdout=subprocess.PIPE, text=True,
                check=False, timeout=_PATIENCE,
            )  # fmt: skip
        except FileNotFoundError:
            raise FailedPrecondition(
                f"credential helper '{self._program}': is not on PATH",
                hint="install it, or take it out of docker's config.json",
            ) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            why = "gave no answer" if isinstance(error, subprocess.TimeoutExpired) else "cannot run"
            # not raised from the error: that one has the input in it
            raise FailedPrecondition(f"credential helper '{self._program}': {why}") from None
        if done.returncode == 0:
            return done.stdout
        if _ABSENT in done.stdout.lower():
            raise NotFound(f"credential helper '{self._program}': has nothing")
        # what it printed is an error for people when it failed, except where it got a secret
        said = done.stdout.strip() if verb != "store" else ""
        raise FailedPrecondition(
            f"credential helper '{self._program}': {verb} failed with exit code {done.returncode}"
            + (f": {said}" if said else "")
        )

    def _object(self, text: str) -> dict[str, Any]:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise FailedPrecondition(
                f"credential helper '{self._program}': its answer is not a JSON object"
            )
        return answer

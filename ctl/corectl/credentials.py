"""The user's logins: from docker's config.json and the helpers that it names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corectl.credential_programs import Helper
from corectl.docker_config import HUB, DockerConfig, hostname, server_key

if TYPE_CHECKING:
    from cored._pb.cored.workloads.v1 import images_pb2 as pb

__all__ = ["Login", "Logins", "auths_for"]


@dataclass(frozen=True, slots=True)
class Login:
    """What proves who one is; never shown."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Logins:
    """Reads and writes logins where docker would."""

    def __init__(self) -> None:
        self._config = DockerConfig.load()

    def get(self, server: str) -> Login | None:
        """The login for a registry, if there is one."""
        key = server_key(server)
        helper = self._config.helper(key)
        found = Helper(helper).get(key) if helper else self._config.entry(key)
        if found is None or not any(found):
            return None
        return Login(*found)

    def put(self, server: str, login: Login) -> str:
        """Keep a login; where it is when that is a file in the clear, else ''."""
        self._config.detect()
        key = server_key(server)
        helper = self._config.helper(key)
        secret = (login.username, login.password, login.identity_token)
        if helper:
            Helper(helper).store(key, *secret)
            self._config.put(key, "", "", "")  # docker notes that there is one
        else:
            self._config.put(key, *secret)
        self._config.save()
        return "" if helper else str(self._config.path)

    def erase(self, server: str) -> bool:
        """Forget a login; whether there was one."""
        key = server_key(server)
        helper = self._config.helper(key)
        erased = Helper(helper).erase(key) if helper else False
        if self._config.drop(key):
            self._config.save()
            return True
        return erased


def auths_for(references: Iterable[str]) -> list[pb.RegistryAuth]:
    """The logins that transfers of these images may need, as messages.

    Only those of the registries that are named: a helper is not asked for more than that.
    """
    logins = Logins()
    found = []
    for host in dict.fromkeys(map(registry_of, references)):
        login = logins.get(host)
        if login is not None:
            found.append(message(host, login))
    return found


def message(server: str, login: Login) -> pb.RegistryAuth:
    """A login for the daemon."""
    from cored._pb.cored.workloads.v1 import images_pb2 as pb

    key = server_key(server)
    return pb.RegistryAuth(
        host="docker.io" if key == HUB else hostname(key),
        username=login.username,
        password=login.password,
        identity_token=login.identity_token,
    )


def registry_of(reference: str) -> str:
    """The registry in a reference, by docker's rule for short ones."""
    head, slash, _ = reference.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return head
    return "docker.io"

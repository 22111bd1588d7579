"""One transfer's way to one repository: its hosts, who we are there, and requests that last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit

from urllib3.exceptions import HTTPError

from cored import log
from cored.abc.values import Descriptor
from cored.archive.http import Body, Connections, shown
from cored.archive.jobs import Refusal, Route, Tls
from cored.archive.pool import Renew
from cored.archive.routes import LONGEST_WAIT
from cored.config import RegistryConfig
from cored.engine.registry.access import Access
from cored.engine.registry.answers import (
    LARGEST,
    RETRIED,
    Answer,
    Broken,
    broken,
    failure,
    read,
)
from cored.engine.registry.aside import aside
from cored.engine.registry.auth import Tokens
from cored.engine.registry.hosts import Host
from cored.errors import CoredError, FailedPrecondition, PermissionDenied
from cored.oci import mediatypes
from cored.oci.reference import Reference

__all__ = ["Call", "Located", "Session"]

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``path`` is below the repository, or a whole URL of the host ``at``.

    ``body`` opens what is sent, anew for each attempt. A status that is not in ``good`` is raised;
    so is what ``check`` raises. ``actions`` are those that a token must allow; ``scopes`` more
    that it must have. ``attempts`` 0 is as configured. Without ``resend`` it is only repeated when
    the host says that it was busy.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Callable[[], Body] = lambda: None
    good: Container[int] = (200,)
    capability: str = "pull"
    actions: str = "pull"
    scopes: frozenset[str] = frozenset()
    check: Callable[[Answer], None] = lambda answer: None
    limit: int = LARGEST
    attempts: int = 0
    resend: bool = True
    what: str = ""


@dataclass(frozen=True, slots=True)
class Located:
    """Where a blob can be fetched, and who answers a server that refuses."""

    routes: tuple[Route, ...]
    renew: Renew


class Session:
    """Requests to the repository of ``reference`` as one user, from the event loop.

    The hosts are tried in order: what one does not have or cannot do, the next one may. The last
    one is asked again when it is busy or the connection breaks, with growing pauses or those that
    it wishes for.
    """

    def __init__(
        self,
        connections: Connections,
        hosts: tuple[Host, ...],
        reference: Reference,
        access: Access,
        settings: RegistryConfig,
        *,
        offline: bool = False,
    ) -> None:
        self.reference = reference
        self._connections = connections
        self._hosts = hosts
        self._access = access
        self.settings = settings
        self._timeout = settings.timeout
        self._tokens = Tokens(connections, access, settings.timeout, offline=offline)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._settled: dict[str, Host] = {}
        self._away: set[Host] = set()

    async def send(self, call: Call, at: Host | None = None) -> Answer:
        """The first good answer. NotFound; PermissionDenied; ResourceExhausted; Unavailable;
        FailedPrecondition."""
        hosts = [at] if at is not None else self.hosts(call.capability)
        for host in hosts[:-1]:
            try:
                return await self._asked(replace(call, attempts=1), host)
            except CoredError as error:
                if isinstance(error, Broken):
                    self._away.add(host)
                log.get("registry").warning(
                    "mirror passed over", mirror=host.name, error=error.message
                )
        return await self._asked(call, hosts[-1])

    @property
    def identity(self) -> str:
        """The identity token that a registry gave, where it was asked for; ''."""
        return self._tokens.identity

    def hosts(self, capability: str) -> list[Host]:
        """Who is asked for something, those last that did not answer before."""
        able = [host for host in self._hosts if capability in host.capabilities]
        if not able:
            raise FailedPrecondition(
                f"registry {self.reference.host}: has no host to {capability} from or to",
                hint="see its hosts.toml",
            )
        if capability == "push":
            return able[:1]
        return sorted(able, key=lambda host: host in self._away and host is not able[-1])

    async def _asked(self, call: Call, host: Host) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            wait: float | None = None
            try:
                async with self._places:
                    answer = await aside(lambda: self._once(call, host))
                if answer.status in call.good:
                    call.check(answer)
                    return answer
                error: CoredError = failure(call.what or self._what, answer)
                if answer.status not in RETRIED:
                    raise error
                wait = answer.wait
                if not call.resend and wait is None and answer.status != 429:
                    raise error
            except Broken as caught:
                error = caught
                if not call.resend:
                    raise
                if not caught.begun:
                    attempt += 2  # nobody there: seldom worth many tries
            if attempt >= (call.attempts or self.settings.attempts) or (wait or 0.0) > LONGEST_WAIT:
                raise error
            await asyncio.sleep(0.3 * 2 ** (attempt - 1) if wait is None else wait)

    @property
    def _what(self) -> str:
        return f"image {self.reference}"

    def _once(self, call: Call, host: Host) -> Answer:
        """One request in the calling thread, with its own answer to a 401."""
        host = self._settled.get(host.name, host)
        if not host.guess:
            return self._authorised(call, host)
        secure = replace(host, scheme="https", guess=False)
        try:
            answer = self._authorised(call, host)
            if answer.status != 400 or b"HTTPS" not in answer.data:
                self._settled[host.name] = replace(host, guess=False)
                return answer
        except Broken as error:
            if not error.begun:
                raise
            try:
                answer = self._authorised(call, secure)
            except (Broken, FailedPrecondition):
                raise error from None
        else:
            answer = self._authorised(call, secure)
        self._settled[host.name] = secure
        return answer

    def _authorised(self, call: Call, host: Host) -> Answer:
        scopes = self._scopes(call)
        header = self._tokens.header(host, scopes)
        answer = self._exchanged(call, host, header)
        if answer.status == 401:
            challenge = answer.headers.get("WWW-Authenticate", "")
            header = self._tokens.answer(host, scopes, challenge, header)
            answer = self._exchanged(call, host, header)
        return answer

    def _exchanged(self, call: Call, host: Host, authorization: str | None) -> Answer:
        url = self._url(call.path, host)
        headers, tls = {**self._headers(host, authorization), **call.headers}, host.tls
        if urlsplit(url).netloc != host.name:
            # a registry may send uploads elsewhere; elsewhere is not told who we are
            headers, tls = {"User-Agent": "cored", **call.headers}, Tls(tls.authorities)
        body = call.body()
        try:
            response = self._connections.send(
                call.method, url, headers, body=body, tls=tls,
                connect=host.dial, read=self._timeout,
            )  # fmt: skip
            answer = read(host, url, response, call.limit)
        except HTTPError as error:
            raise broken(host, error) from error
        finally:
            if body is not None and not isinstance(body, bytes):
                body.close()
        log.get("registry").debug(
            "request", method=call.method, url=shown(url), status=answer.status
        )
        return answer

    def _url(self, path: str, host: Host) -> str:
        if "://" in path:
            return path
        # a repository is asked for by path; /v2/ itself is below no repository
        url = f"{host.base}/{self.reference.path}{path}" if path != "/" else f"{host.base}/"
        if host.mirrors:
            url += f"{'&' if '?' in path else '?'}ns={quote(host.mirrors, safe=':')}"
        return url

    def _headers(self, host: Host, authorization: str | None) -> dict[str, str]:
        headers = {"User-Agent": "cored", **dict(host.headers), **self._access.headers}
        return headers | ({"Authorization": authorization} if authorization else {})

    def _scopes(self, call: Call) -> frozenset[str]:
        if not call.actions:
            return call.scopes
        return call.scopes | {f"repository:{self.reference.path}:{call.actions}"}

    def located(self, blob: Descriptor) -> Located:
        """Where a blob can be fetched right now: its own URLs first if it is a foreign layer."""
        call = Call("GET", f"/blobs/{blob.digest}")
        hosts = [self._settled.get(host.name, host) for host in self.hosts("pull")]
        own = blob.urls if mediatypes.is_foreign(blob.media_type) else ()
        urls = [url for url in own if urlsplit(url).scheme in ("http", "https")]
        routes = [Route(url, read=self._timeout) for url in urls]
        routes += [self._route(call, host) for host in hosts]

        def renewed(refusal: Refusal) -> Route:
            number = refusal.number
            if number < len(urls):
                raise PermissionDenied(
                    f"layer {blob.digest}: access denied by {shown(urls[number])}"
                )
            host = hosts[number - len(urls)]
            refused = dict(routes[number].headers).get("Authorization")
            self._tokens.answer(host, self._scopes(call), refusal.challenge, refused)
            routes[number] = self._route(call, host)
            return routes[number]

        async def renew(refusal: Refusal) -> Route:
            return await aside(lambda: renewed(refusal))

        return Located(tuple(routes), renew)

    def _route(self, call: Call, host: Host) -> Route:
        headers = self._headers(host, self._tokens.header(host, self._scopes(call)))
        return Route(
            self._url(call.path, host), tuple(headers.items()), host.tls, host.dial, self._timeout
        )

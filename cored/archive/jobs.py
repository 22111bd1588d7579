"""What daemon and worker say to each other: frozen, picklable values, stdlib only."""

from __future__ import annotations

from dataclasses import field

from cored.dataclass import dataclass

__all__ = [
    "DiffJob",
    "DiffResult",
    "Fixups",
    "LayerJob",
    "LayerResult",
    "Limits",
    "Refusal",
    "Route",
    "Source",
    "Tls",
    "VerifyJob",
    "VerifyResult",
]


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server is known, and how we are: PEM files.

    ``authorities`` are trusted beside the system's; ``certificates`` are pairs of certificate and
    key (the same file when it holds both); ``insecure`` turns verification off.
    """

    authorities: tuple[str, ...] = ()
    certificates: tuple[tuple[str, str], ...] = ()
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One way to a blob over HTTP(S).

    ``headers`` go with the request, and not to another host that it is redirected to: they hold
    secrets, which is why nothing shows them. ``connect`` is the seconds to connect, ``read`` those
    to wait for any next byte.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    tls: Tls = field(default_factory=Tls)
    connect: float = 10.0
    read: float = 60.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a worker asks its daemon: route ``number`` wants an answer to this ``challenge``."""

    number: int
    challenge: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where a blob's bytes come from.

    Without ``routes``: the local file ``path``. With them: the first that has it, and what arrives
    is appended to the file ``path``, of which the first ``offset`` bytes are there already (a
    resumed ingest; they are hashed and unpacked too, what lies beyond them is cut off).
    ``connections`` is the most that one blob may use at a time, ``attempts`` how often the last
    route is tried in a row without bringing anything.
    """

    path: str
    routes: tuple[Route, ...] = ()
    offset: int = 0
    connections: int = 1
    attempts: int = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """When an archive is taken for a bomb: InvalidArgument. 0 turns a limit off.

    ``ratio`` is uncompressed over compressed size, looked at beyond ``grace`` uncompressed bytes;
    ``size`` is the most uncompressed bytes, ``entries`` the most entries.
    """

    ratio: int = 250
    grace: int = 1 << 30
    size: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class LayerJob:
    """Bring a layer's blob in, check both digests and extract it into the directory ``target``.

    ``digest`` and ``size`` are what the descriptor says of the blob; ``diff_id`` what the image's
    config says of the tar ('' when nobody knows). ``target`` exists. With ``target`` '' nothing
    is extracted: the blob is only fetched and hashed (a config, a layer that is unpacked already).

    ``overlay``: ``target`` is an overlay's upper directory. Whiteouts become character devices
    0:0 and opaque directories get the xattr ``trusted.overlay.opaque``; otherwise whiteouts
    delete from ``target``, which must then hold a copy of what lies below.

    ``lowers``: for ``overlay`` the upper directories below, from top to bottom, when they are
    complete: the fix-ups are applied by the worker. None: they come back in the result and whoever
    completes the lower layers calls :func:`cored.archive.fixups.apply_fixups`.

    ``sync`` flushes the filesystem of ``target`` at the end.
    """

    source: Source
    media_type: str
    digest: str
    size: int
    target: str
    overlay: bool = False
    lowers: tuple[str, ...] | None = None
    diff_id: str = ""
    sync: bool = False
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Fixups:
    """What an overlay layer still needs once the layers below it are complete.

    Paths are bytes, relative to the layer, without leading or trailing slash, parents first.

    ``implied_dirs`` came without an entry of their own: owner, mode, times and xattrs are those
    of the directory below, and what was put into them moves on where a link lies below.
    ``lower_links`` are (new name, existing name) of hardlinks to files of a lower layer.
    ``whiteouts`` are those written; those with nothing below them go away.
    ``opaque`` directories were marked so; the marks go away where no layer is below.
    """

    implied_dirs: tuple[bytes, ...] = ()
    lower_links: tuple[tuple[bytes, bytes], ...] = ()
    whiteouts: tuple[bytes, ...] = ()
    opaque: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerResult:
    """A finished layer: the blob's digest and size, and the tar's (the diff id).

    ``diff_id`` is '' and ``uncompressed_size`` 0 when nothing was extracted. ``fixups`` is empty
    when nothing is left to do.
    """

    digest: str
    size: int
    diff_id: str
    uncompressed_size: int
    fixups: Fixups = field(default_factory=Fixups)


@dataclass(frozen=True, slots=True)
class DiffJob:
    """Write the layer that turns the tree ``lower`` ('' is an empty one) into the tree ``upper``.

    The archive goes to the file ``output``; ``compression`` is 'gzip', 'zstd' or ''. Times later
    than ``epoch`` (seconds since 1970, if given) are set to it. ``overlay``: ``upper`` is an
    overlay's upper directory, with its marks, and ``lower`` is not looked at. ``mounted`` are the
    places of mounts: what is empty there, and was made for them, is left out.
    """

    lower: str
    upper: str
    output: str
    compression: str = "gzip"
    epoch: int | None = None
    overlay: bool = False
    mounted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DiffResult:
    """A written layer: digests and sizes of the file and of the tar in it."""

    digest: str
    size: int
    diff_id: str
    uncompressed_size: int


@dataclass(frozen=True, slots=True)
class VerifyJob:
    """Compare the archive of a layer, the file ``path``, with ``target``: the tree that it and
    those below it were unpacked into, as a container would see it.

    Compared are type, owner, mode, size, content, link target, device and attributes of what the
    archive holds; whether something is there that should not be is not. ``most`` problems are told.
    """

    path: str
    target: str
    most: int = 10


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """How many entries were compared, how many are not as they should be, and the first of them."""

    entries: int
    damaged: int
    problems: tuple[str, ...]

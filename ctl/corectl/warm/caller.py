"""The installed command: have a keeper's worker do it, or do it and leave a keeper behind.

Starting Python and importing what corectl is made of takes ten times as long as most commands do.
Nothing is imported here that the bare interpreter has not, but what talks to the keeper.
"""

import _socket
import os
import sys

from corectl.warm.likeness import likeness

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    # the same without its enumerations
    import _signal

__all__ = ["run"]

_SECONDS = "60"
_PRIME = 2**61 - 1  # of a likeness makes a short name
# a command that reads the keyboard is the terminal's own process, with job control as ever
_KEYBOARD = {"attach", "exec", "login", "run", "start"}
_PASSED_ON = (
    _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1,
    _signal.SIGUSR2, _signal.SIGWINCH,
)  # fmt: skip
_FILES = 200  # the kernel passes 253 at once


def run() -> None:
    """Run the command of this process's arguments and end with its exit code."""
    seconds = os.environ.get("CORECTL_WARM", _SECONDS)
    if not seconds.isdecimal():
        os.write(2, f"corectl: CORECTL_WARM: {seconds!r}: not a number of seconds\n".encode())
        os._exit(2)
    try:
        own = likeness()
        place = _place() if int(seconds) and os.getpid() != 1 else None
    except OSError:
        # a system whose /proc or /run is not as we know it
        place = None
    if place is None:
        _alone(None)
        return
    socket = f"{place}/warm-{int.from_bytes(own, 'big') % _PRIME:016x}"
    if not _reads_the_keyboard():
        # what comes from now on is for the worker as soon as there is one
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, (*_PASSED_ON, _signal.SIGTSTP))
        talk = _asked(socket, own)
        if talk is not None:
            _end(_called(talk, mask))
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    _alone((socket, own, seconds))


def _alone(keep: "tuple[str, bytes, str] | None") -> None:
    """Be the command, as without any of this; then see to a keeper for the next."""
    from corectl.__main__ import run as itself

    def leave() -> None:
        from corectl.warm.leaving import leave_one

        if keep is not None:
            leave_one(*keep)

    itself(leave)


def _place() -> "str | None":
    """The directory of this user's keepers; None where there is no place that is nobody else's."""
    user = os.geteuid()
    base = "/run" if user == 0 else f"/run/user/{user}"
    place = f"{base}/corectl"
    try:
        found = os.lstat(place)
    except FileNotFoundError:
        try:
            os.mkdir(place, 0o700)
        except OSError:
            return None
        found = os.lstat(place)
    # a directory, ours, and closed to others
    mine = found.st_uid == user and found.st_mode & 0o170077 == 0o040000
    return place if mine else None


def _reads_the_keyboard() -> bool:
    if not os.isatty(0):
        return False
    try:
        behind = os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        # a terminal that is not the one of this session
        behind = True
    return behind or not _KEYBOARD.isdisjoint(sys.argv[1:])


def _asked(socket: str, own: bytes) -> "_socket.socket | None":
    """A conversation in which a keeper has taken our request; None when nothing was asked of it."""
    talk = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    talk.settimeout(0.25)
    try:
        talk.connect(socket)
        # from the request on there is no way back
        if talk.recv(len(own) + 1) != own:
            raise OSError("not of our kind")
        request, files = _request()
        talk.sendmsg(
            [request],
            [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, b"".join(map(_number, files)))],
        )
    except OSError:
        # none there, a busy one, a request of more than one message
        talk.close()
        return None
    talk.settimeout(None)
    return talk


def _number(file: int) -> bytes:
    return file.to_bytes(4, sys.byteorder)


def _request() -> "tuple[bytes, list[int]]":
    """Numbers of files, arguments, environment; and the files, the directory first."""
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    files = [
        int(name)
        for name in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{name}") and os.get_inheritable(int(name))
    ]
    if not {0, 1, 2} <= set(files) or len(files) > _FILES:
        raise OSError("closed streams, or more files than can be passed")
    head = [" ".join(map(str, files)).encode(), b"%d" % len(sys.argv[1:])]
    arguments = map(os.fsencode, sys.argv[1:])
    environment = (b"=".join(item) for item in os.environb.items())
    return b"\0".join([*head, *arguments, *environment]), [here, *files]


def _called(talk: "_socket.socket", mask: "set[int]") -> int:
    """Pass signals on until the keeper tells how the worker ended, as wait(2) has it."""

    def passes(number: int, frame: object) -> None:
        talk.send(bytes([number]))

    def stops(number: int, frame: object) -> None:
        talk.send(bytes([_signal.SIGSTOP]))
        os.kill(os.getpid(), _signal.SIGSTOP)
        talk.send(bytes([_signal.SIGCONT]))

    for number in _PASSED_ON:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, passes)
    if _signal.getsignal(_signal.SIGTSTP) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGTSTP, stops)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    told = talk.recv(8)
    if told:
        return int(told)
    os.write(2, b"corectl: what ran the command was killed (CORECTL_WARM=0: never another)\n")
    return 1 << 8


def _end(status: int) -> None:
    """As the worker did: by its code, or by its signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (_signal.SIGKILL, _signal.SIGSTOP):
            _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)

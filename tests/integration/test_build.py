"""corectl build against a real daemon: what comes of Dockerfiles, what is run again, and why."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import json
import os
import subprocess
import tarfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import daemons
from tests.builds import Shop
from tests.daemons import CORECTL, Daemon
from tests.living import glob

pytestmark = pytest.mark.root


@pytest.fixture
def shop(daemon: Daemon, tmp_path: Path) -> Shop:
    return Shop(daemon, tmp_path)


def archive(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_an_image_is_built_named_and_run(shop: Shop) -> None:
    context = shop.context(
        """FROM busybox
ARG WHO=nobody
ENV GREETING="hello $WHO" EMPTY=
WORKDIR /srv/app
COPY message .
RUN echo "$GREETING" > greeting && id -u > who
USER 7:8
LABEL one=1 "two words"='2 3'
EXPOSE 80 90/udp
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["cat"]
CMD ["message", "greeting", "who"]
""",
        {"message": "from the context\n"},
    )
    told = shop.build(context, "-t", "built:1", "--build-arg", "WHO=you", "--label", "more=x")
    assert "RUN echo" in told and "DONE" in told
    assert shop.ran("built:1") == "from the context\nhello you\n0\n"
    config = shop.config("built:1")
    assert config["Entrypoint"] == ["cat"] and config["Cmd"] == ["message", "greeting", "who"]
    assert {"GREETING=hello you", "EMPTY="} <= set(config["Env"])
    assert config["User"] == "7:8" and config["WorkingDir"] == "/srv/app"
    assert config["Labels"] == {"one": "1", "two words": "2 3", "more": "x"}
    assert set(config["ExposedPorts"]) == {"80/tcp", "90/udp"}
    assert set(config["Volumes"]) == {"/data"} and config["StopSignal"] == "SIGINT"
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    history = shop("history", "--no-trunc", "built:1")
    assert "COPY message ." in history and "LABEL one=1" in history


def test_only_what_must_runs_again_and_why_is_said(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox\nCOPY package .\nRUN echo install > /installed\nCOPY . /app\n"
        "RUN ls /app > /list\n",
        {"package": "1", "main": "one", "lib/a": "a"},
    )
    shop.build(context, "-t", "again:1")
    os.utime(context / "main", (1, 1))
    assert shop.build(context, "-t", "again:1").count("CACHED") == 4  # times do not count
    (context / "main").write_text("two")
    told = shop.build(context, "-t", "again:1", "--explain")
    states = [line.split()[0] for line in told.splitlines() if not line.startswith(" ")]
    assert states == ["done", "cached", "cached", "ran", "ran"]
    assert "          file main: changed\n" in told
    assert "          the step before it made something else\n" in told
    assert shop.build(context, "--no-cache", "-t", "again:1").count("CACHED") == 0


def test_an_argument_counts_where_it_is_declared(shop: Shop) -> None:
    context = shop.context("FROM busybox\nRUN echo early\nARG V=1\nRUN echo $V > /v\n")
    shop.build(context, "-t", "arg:1")
    told = shop.build(context, "-t", "arg:1", "--build-arg", "V=2", "--explain")
    assert "cached  [2/3] RUN echo early" in told
    assert "variable V: '1' -> '2'" in told
    assert shop.ran("arg:1", "cat", "/v") == "2\n"


def test_stages_that_the_target_does_not_need_do_not_run(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox AS broken\nRUN false\nFROM busybox AS base\nRUN echo b > /b\n"
        "FROM base AS one\nRUN echo 1 > /one\nFROM scratch\nCOPY --from=one /one /b /out/\n"
    )
    assert set(shop.tree(context)) == {"out", "out/one", "out/b"}
    assert "b" in shop.tree(context, "--target", "base")
    failed = shop.build(context, "--target", "broken", code=1)
    assert "Dockerfile:2: RUN: '/bin/sh -c false': exit code 1" in failed


def test_independent_stages_run_at_the_same_time(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox AS a\nRUN --mount=type=cache,target=/meet touch /meet/a; "
        "for i in $(seq 100); do test -e /meet/b && exit 0; sleep 0.1; done; exit 1\n"
        "FROM busybox AS b\nRUN --mount=type=cache,target=/meet touch /meet/b; "
        "for i in $(seq 100); do test -e /meet/a && exit 0; sleep 0.1; done; exit 1\n"
        "FROM scratch\nCOPY --from=a /bin/busybox /a\nCOPY --from=b /bin/busybox /b\n"
    )
    assert set(shop.tree(context)) == {"a", "b"}


def test_copy_has_all_its_flags(shop: Shop) -> None:
    context = shop.context(
        """FROM scratch
COPY --chown=5:6 --chmod=640 one /owned
COPY --chmod=u=rwx,go=rx one /bin/symbolic
COPY *.c lib/ /src/
COPY --exclude=*.o --exclude=deep tree /some/
COPY --parents tree/./a.o tree/deep/*.h /parents/
COPY --link one /linked/
COPY link /links/
COPY <<A <<"B" /docs/
expanded ${X:-x}
A
kept $X
B
""",
        {
            "one": "1",
            "x.c": "c",
            "lib/l": "l",
            "tree/a.o": "o",
            "tree/a.c": "c",
            "tree/deep/d.h": "h",
        },
    )
    (context / "link").symlink_to("one")
    tree = shop.tree(context)
    files = {path: entry for path, entry in tree.items() if entry[0] != "directory"}
    assert files["owned"] == ("file", 0o640, 5, 6, "1")
    assert files["bin/symbolic"][1] == 0o755
    assert files["src/x.c"][4] == "c" and files["src/l"][4] == "l"
    assert "some/a.c" in files and "some/a.o" not in files and "some/deep" not in tree
    assert "parents/tree/deep/d.h" in files
    assert files["linked/one"] == ("file", 0o644, 0, 0, "1")
    assert files["links/link"][0] == "file"
    assert files["docs/A"][4] == "expanded x\n" and files["docs/B"][4] == "kept $X\n"


def test_add_unpacks_archives_and_checks_what_it_fetches(shop: Shop) -> None:
    files = {"in/side": b"packed"}
    kinds = {"a.tar": "w", "b.tar.gz": "w:gz", "c.tar.xz": "w:xz", "d.tar.bz2": "w:bz2"}
    inside: dict[str, str | bytes] = {name: archive(files, mode) for name, mode in kinds.items()}
    served = shop.place / "served"
    served.mkdir()
    (served / "file").write_bytes(b"fetched")
    (served / "file.tar").write_bytes(archive(files))
    handler = functools.partial(_Quiet, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            digest = hashlib.sha256(b"fetched").hexdigest()
            context = shop.context(
                "FROM scratch\nADD a.tar /a/\nADD b.tar.gz /b/\nADD c.tar.xz /c/\n"
                "ADD d.tar.bz2 /d/\n"
                "COPY a.tar /plain\nADD --unpack=false a.tar /kept/\n"
                f"ADD --checksum=sha256:{digest} --chmod=644 {url}/file /f/\n"
                f"ADD {url}/file.tar /g/\n",
                inside,
            )
            tree = shop.tree(context)
            wrong = shop.context(f"FROM scratch\nADD --checksum=sha256:{'0' * 64} {url}/file /f\n")
            failed = shop.build(wrong, code=1)
        finally:
            server.shutdown()
            thread.join()
    for place in "abcd":
        assert tree[f"{place}/in/side"][4] == "packed"
    assert tree["plain"][0] == tree["kept/a.tar"][0] == "file"
    assert tree["f/file"][:2] == ("file", 0o644) and tree["g/file.tar"][1] == 0o600
    assert f"is sha256:{digest}, not" in failed


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_run_has_mounts(shop: Shop) -> None:
    context = shop.context(
        """FROM busybox AS other
RUN mkdir /o && echo other > /o/file
FROM busybox
WORKDIR /w
RUN --mount=type=bind,target=/b --mount=from=other,source=/o,target=/o,rw \\
    cat /b/data /o/file > all && ! touch /b/x 2>/dev/null && touch /o/gone
RUN --mount=type=tmpfs,target=/t,size=1m mount | grep ' /t ' | grep -c tmpfs > tmp
RUN --mount=type=cache,id=c,target=/c,uid=3,mode=0700 stat -c '%u %a' /c > cache; date >> /c/runs
RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c > size && stat -c %a /run/secrets/s >> size
RUN --mount=type=secret,id=s,env=TOKEN test -n "$TOKEN"
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
""",
        {"data": "data\n"},
    )
    secret = shop.place / "secret"
    secret.write_text("hunter2!hunter2!")
    given = ("--secret", f"id=s,src={secret}")
    shop.build(context, "-t", "mounts:1", *given)
    assert shop.ran("mounts:1", "cat", "all", "tmp", "cache", "size") == (
        "data\nother\n1\n3 700\n16\n400\n"
    )
    tree = shop.tree(context, *given)
    for left in ("b", "o", "t", "c", "run", "etc/resolv.conf", "etc/hosts"):
        assert left not in tree, left
    required = shop.context("FROM busybox\nRUN --mount=type=secret,id=no,required=true true\n")
    assert "secret 'no': was not given" in shop.build(required, code=1)


def test_secrets_reach_no_layer_cache_or_log(shop: Shop) -> None:
    secret = f"very-secret-{time.time_ns()}"
    context = shop.context(
        "FROM busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s; echo; echo shown\n"
        "RUN --mount=type=secret,id=s,env=TOKEN echo $TOKEN; echo 1\n"
    )
    told = shop.build(
        context, "-t", "secret:1", "--secret", "id=s,env=GIVEN",
        env={**os.environ, "GIVEN": secret},
    )  # fmt: skip
    assert "***" in told and secret not in told
    forms = [secret]
    for shift in range(3):  # as specs are in the metadata store
        forms.append(base64.b64encode(b"x" * shift + secret.encode()).decode()[4:-4])
    found = subprocess.run(
        ["grep", "-rlaF", *(part for form in forms for part in ("-e", form)), shop.daemon.home],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_ssh_agents_are_forwarded(shop: Shop) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as agent:
        path = shop.daemon.home / "agent"
        agent.bind(str(path))
        context = shop.context('FROM busybox\nRUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"\n')
        try:
            shop.build(context, "--ssh", f"default={path}")
        finally:
            path.unlink()


def test_run_has_a_network_or_none(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox\nRUN --network=none ls /sys/class/net > /none\n"
        "RUN ls /sys/class/net > /some\n"
        "RUN --network=host readlink /proc/self/ns/net > /host\n"
    )
    tree = shop.tree(context)
    assert tree["none"][4] == "lo\n" and tree["some"][4] == "eth0\nlo\n"
    assert tree["host"][4].strip() == os.readlink("/proc/self/ns/net")


def test_run_is_confined_as_containers_are(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox\nRUN grep -E 'Seccomp:|CapEff' /proc/self/status | tr -d '\\t' > /status\n"
    )
    shop.build(context, "-t", "confined:1")
    inside = shop.ran("confined:1", "sh", "-c", "grep -E 'Seccomp:|CapEff' /proc/self/status")
    assert shop.ran("confined:1", "cat", "/status") == inside.replace("\t", "")


def test_heredocs_are_scripts(shop: Shop) -> None:
    context = shop.context(
        "FROM busybox\nRUN <<EOF\necho one > /one\necho $HOME >> /one\nEOF\n"
        "RUN <<EOF\n#!/bin/busybox ash\necho $0 > /two\nEOF\n"
        "RUN cat <<A > /three && cat <<'B' >> /three\n1\nA\n$2\nB\n"
        'SHELL ["/bin/busybox", "sh", "-ec"]\nRUN echo shell > /four\n'
    )
    tree = shop.tree(context)
    assert tree["one"][4] == "one\n/root\n" and tree["two"][4] == "/dev/pipes/script\n"
    assert tree["three"][4] == "1\n$2\n" and tree["four"][4] == "shell\n"


def test_triggers_run_in_the_next_build(shop: Shop) -> None:
    base = shop.context("FROM busybox\nONBUILD COPY file /from-trigger\nONBUILD RUN echo t > /t\n")
    shop.build(base, "-t", "trigger:1")
    assert shop.config("trigger:1")["OnBuild"] == ["COPY file /from-trigger", "RUN echo t > /t"]
    context = shop.context("FROM trigger:1\nRUN cat /from-trigger /t > /both\n", {"file": "f"})
    shop.build(context, "-t", "triggered:1")
    assert shop.ran("triggered:1", "cat", "/both") == "ft\n"
    assert "OnBuild" not in shop.config("triggered:1")


def test_the_same_build_twice_is_the_same_image(shop: Shop) -> None:
    text = "FROM busybox\nRUN mkdir /d && date > /d/now && echo x > /x\nCOPY f /f\nWORKDIR /new\n"
    context = shop.context(text.replace("date > /d/now && ", ""), {"f": "f"})
    ids = set()
    for _ in range(2):
        file = shop.place / "iid"
        words = ("--no-cache", "--iidfile", file, "--build-arg", "SOURCE_DATE_EPOCH=1000000000")
        shop.build(context, "-t", "same:1", *words)
        ids.add(file.read_text())
        os.utime(context / "f")
    assert len(ids) == 1
    (image,) = json.loads(shop("image", "inspect", "same:1"))
    assert image["Created"] == "2001-09-09T01:46:40Z"


def test_ignored_files_do_not_reach_the_context(shop: Shop) -> None:
    context = shop.context(
        "FROM scratch\nCOPY . /\n",
        {".dockerignore": "*\n!src\n**/*.o\n", "src/a.c": "", "src/a.o": "", "big": "x"},
    )
    assert set(shop.tree(context)) == {"src", "src/a.c"}


def test_named_contexts_hide_images_and_give_files(shop: Shop) -> None:
    more = shop.context("", {"extra": "more"})
    context = shop.context("FROM base\nCOPY --from=files extra /extra\nRUN cat /extra\n")
    words = ("--build-context", "base=docker-image://busybox", "--build-context", f"files={more}")
    assert shop.tree(context, *words)["extra"][4] == "more"


def test_outputs(shop: Shop) -> None:
    context = shop.context("FROM scratch\nCOPY f /d/f\n", {"f": "content"})
    place = shop.place
    shop.build(context, "-o", place / "local")
    assert (place / "local/d/f").read_text() == "content"
    shop.build(context, "-o", f"type=oci,dest={place}/oci.tar", "-t", "out:1")
    with tarfile.open(place / "oci.tar") as tar:
        assert "oci-layout" in tar.getnames() and "manifest.json" not in tar.getnames()
    shop.build(context, "-o", f"type=docker,dest={place}/docker.tar", "-t", "out:1")
    assert "out:1" in shop("load", "-i", place / "docker.tar")
    file = place / "metadata"
    shop.build(context, "-t", "out:1", "--metadata-file", file)
    id = shop("build", "-q", context, "-t", "out:1").strip()
    assert json.loads(file.read_text())["containerimage.config.digest"] == id
    assert shop("images", "-q", "--no-trunc", "out").strip() in (
        id, json.loads(file.read_text())["containerimage.digest"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "FROM busybox\nRUN echo lost; echo why >&2; exit 7\n",
            ["Dockerfile:2: RUN: ", "exit code 7", "| lost", "| why", ">>> RUN"],
        ),
        ("FROM busybox\nCOPY absent /\n", ["Dockerfile:2: COPY: 'absent': not found", ">>> COPY"]),
        ("FROM busybox\nUSER nosuch\nRUN true\n", ["Dockerfile:3", "nosuch"]),
        ("FROM a AS b\nFROM b AS a\nCOPY --from=c / /\nFROM a AS c\n", ["needs itself: "]),
        ("FROM busybox\nCOPY --from=nosuch.invalid/x /a /b\n", ["Dockerfile:2", "nosuch.invalid"]),
        ("FROM busybox\nEXPOSE what\n", ["EXPOSE 'what': invalid"]),
        ('FROM busybox\nENV A="${B:?must be}"\n', ["Dockerfile:2: B: must be"]),
        ("FROM busybox\nRUNN x\n", ["did you mean RUN?"]),
        ("ARG X\nFROM $X\n", ["is empty", "--build-arg"]),
        ("# check=error=true\nFROM busybox\nMAINTAINER x\n", ["MaintainerDeprecated", ">>> MAI"]),
    ],
)
def test_errors_show_where_and_why(shop: Shop, text: str, told: list[str]) -> None:
    failed = shop.build(shop.context(text), code=1)
    for each in told:
        assert each in failed, failed


def test_check_warns_without_a_daemon(shop: Shop) -> None:
    context = shop.context("FROM busybox as x\nMAINTAINER me\n")
    done = subprocess.run(
        [*CORECTL, "--address", "/nonexistent", "build",
         "--check", str(context)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Dockerfile:1: FromAsCasing" in done.stdout
    assert "Dockerfile:2: MaintainerDeprecated" in done.stdout


@pytest.fixture
def slow(shop: Shop) -> Iterator[subprocess.Popen[bytes]]:
    context = shop.context("FROM busybox\nRUN echo kept > /kept\nRUN echo begun; sleep 1000\n")
    words = [*CORECTL, "--address", str(shop.daemon.address)]
    with subprocess.Popen(
        [*words, "build", "--progress=plain", str(context)], stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.endswith(b" begun\n"):
                break
        yield process
        process.kill()


def test_a_cancelled_build_stops_at_once_and_keeps_what_finished(
    shop: Shop, slow: subprocess.Popen[bytes]
) -> None:
    slow.send_signal(2)
    slow.wait(60)
    end = time.monotonic() + 60
    while "sleep 1000" in subprocess.run(
        ["ctr", "-a", str(shop.daemon.address), "tasks", "ls"], capture_output=True, text=True,
        check=True,
    ).stdout or _containers(shop):  # fmt: skip
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "RUN echo kept > /kept" in shop("builder", "ls")


def _containers(shop: Shop) -> list[str]:
    return shop.daemon.ctr("containers", "ls", "-q").stdout.split()


def test_builds_can_be_limited_in_time_and_memory(shop: Shop) -> None:
    context = shop.context("FROM busybox\nRUN sleep 1000\n")
    assert "not done in 1 s" in shop.build(context, "--timeout", "1", code=1)
    limited = shop.context("FROM busybox\nRUN cat /proc/self/cgroup > /c; tail /dev/zero\n")
    assert "exit code 137" in shop.build(limited, "-m", "16m", code=1)


def test_pruning_forgets_and_collection_frees(shop: Shop) -> None:
    context = shop.context("FROM busybox\nRUN echo pruned > /p\n")
    shop.build(context, "-o", "type=tar,dest=/dev/null")
    assert "RUN echo pruned > /p" in shop("builder", "ls")
    shop("builder", "prune", "--unused-for", "3600")
    assert "RUN echo pruned > /p" in shop("builder", "ls")
    shop("builder", "prune")
    assert shop("builder", "ls") == ""
    mounts = shop.daemon.home / "root/grpc_service.build/cache-mounts/default"
    assert not mounts.exists() or not list(mounts.iterdir())
    assert "cached" not in shop.build(context, "-o", "type=tar,dest=/dev/null", "--explain")


def test_two_builds_at_once_share_their_steps(shop: Shop) -> None:
    context = shop.context(f"FROM busybox\nRUN sleep 1; echo {time.time_ns()} > /shared\n")
    words = [*CORECTL, "--address", str(shop.daemon.address)]
    both = [
        subprocess.Popen(
            [*words, "build", "--progress=plain", "-t", f"both:{n}", str(context)],
            stderr=subprocess.PIPE, text=True,
        )
        for n in range(2)
    ]  # fmt: skip
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("CACHED" in text for text in told) == 1, told
    assert shop.ran("both:0", "cat", "/shared") == shop.ran("both:1", "cat", "/shared")


def test_a_killed_daemon_keeps_what_was_finished_and_leaves_nothing_else(
    shop: Shop, slow: subprocess.Popen[bytes]
) -> None:
    shop.daemon.kill()
    slow.wait(60)
    shop.daemon.start()
    shop("builder", "ls")  # answered when the builder has cleaned up
    assert _containers(shop) == []
    context = shop.context("FROM busybox\nRUN echo kept > /kept\nRUN echo after > /after\n")
    told = shop.build(context, "--explain")
    assert "cached  [2/3] RUN echo kept > /kept" in told
    assert shop.tree(context)["after"][4] == "after\n"
    assert "damaged" not in shop("content", "check", "--quick")
    spool = shop.daemon.home / "root/grpc_service.build/spool"
    assert list(spool.iterdir()) == []


def test_an_application_of_several_languages_is_built_and_run(shop: Shop) -> None:
    """A program compiled in one stage, its data made in another, both in the last."""
    context = shop.context(
        """ARG KIND=release
FROM busybox AS compile
WORKDIR /src
COPY main.sh lib.sh ./
RUN cat lib.sh main.sh > /app && chmod 755 /app
FROM busybox AS data
ARG KIND
RUN for i in 1 2 3; do echo "$KIND $i"; done > /data
FROM busybox
WORKDIR /srv
COPY --from=compile --chown=7:7 /app /usr/bin/app
COPY --from=data /data .
EXPOSE 8080
USER 7
ENTRYPOINT ["/usr/bin/app"]
CMD ["data"]
""",
        {"lib.sh": "#!/bin/sh\nshow() { cat $1; id -u; }\n", "main.sh": 'show "$1"\n'},
    )
    shop.build(context, "-t", "app:1")
    assert shop.ran("app:1") == "release 1\nrelease 2\nrelease 3\n7\n"
    (context / "main.sh").write_text('show "$1"; echo new\n')
    told = shop.build(context, "-t", "app:1", "--explain")
    ran = [line.split("] ")[1] for line in told.splitlines() if line.startswith("ran ")]
    assert ran == [
        "COPY main.sh lib.sh ./",
        "RUN cat lib.sh main.sh > /app && chmod 755 /app",
        "COPY --from=compile --chown=7:7 /app /usr/bin/app",
        "COPY --from=data /data .",
    ]
    assert shop.ran("app:1").endswith("7\nnew\n")


def test_builds_work_on_snapshots_that_are_no_overlays(
    daemon: Daemon, busybox: Path, tmp_path: Path
) -> None:
    shop = Shop(daemon, tmp_path, "plain")
    daemon.ctr("namespaces", "create", "plain", "containerd.io/defaults/snapshotter=native")
    shop("load", "-i", busybox)
    context = shop.context(
        "FROM busybox\nCOPY dir /d\nRUN rm /d/gone && rm -r /root && echo x > /d/new\n"
        "COPY --link dir/gone /linked\n",
        {"dir/gone": "g", "dir/kept": "k"},
    )
    tree = shop.tree(context)
    assert {"d/kept", "d/new", "linked"} <= set(tree) and "d/gone" not in tree
    assert "root" not in tree
    shop.build(context, "-t", "plain:1")
    assert shop.ran("plain:1", "cat", "/d/new") == "x\n"
    shop("rmi", "plain:1", "busybox")
    shop("builder", "prune")


def test_a_server_is_built_and_answers_on_a_published_port(shop: Shop) -> None:
    """The steps of the classic tutorial: dependencies first, then the sources."""
    context = shop.context(
        """FROM busybox
WORKDIR /usr/src/app
COPY package*.json ./
RUN for name in $(cat package.json); do mkdir -p node_modules/$name; done
COPY . .
EXPOSE 8080
CMD ["httpd", "-f", "-p", "8080", "-h", "/usr/src/app"]
""",
        {
            "package.json": "one two",
            "package-lock.json": "",
            "index.html": "hello",
            ".dockerignore": "node_modules\nDockerfile",
            "node_modules/mine": "",
        },
    )
    shop.build(context, "-t", "server:1")
    (context / "index.html").write_text("hello again")
    told = shop.build(context, "-t", "server:1", "--explain")
    assert [line.split("] ")[1] for line in told.splitlines() if line.startswith("ran ")] == [
        "COPY . ."
    ]
    shop("run", "-d", "--name", "server", "-p", "127.0.0.1:18080:8080", "server:1")
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen("http://127.0.0.1:18080/", timeout=60) as answer:
                    assert answer.read() == b"hello again"
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.1)
    finally:
        shop("rm", "-f", "server")


def test_a_full_disk_fails_the_step_and_leaves_the_cache_sound(
    busybox: Path, tmp_path: Path, short_tmp: Path
) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "small", short_tmp], check=True)
    try:
        with daemons.cored(root=short_tmp / "root") as small:
            shop = Shop(small, tmp_path)
            small.ctr("images", "import", str(busybox))
            context = shop.context(
                "FROM busybox\nRUN echo kept > /kept\n"
                "RUN dd if=/dev/urandom of=/large bs=1M count=64\n"
            )
            assert "No space left" in shop.build(context, code=1)
            copied = shop.context("FROM busybox\nCOPY large /\n", {"large": os.urandom(64 << 20)})
            assert "no space left" in shop.build(copied, code=1).lower()
            assert not glob(short_tmp / "root", "**/large")
            (context / "Dockerfile").write_text("FROM busybox\nRUN echo kept > /kept\nRUN true\n")
            assert "cached  [2/3] RUN echo kept > /kept" in shop.build(context, "--explain")
            assert "damaged" not in shop("content", "check")
    finally:
        subprocess.run(["umount", "-l", short_tmp], check=True)

"""The tree of commands. Each is imported when it is called, so that the others cost nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import click

from corectl.session import Session

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["LazyGroup", "build"]

_ROOT = {
    "run": ("containers:run", "Make a container and run it, attached or detached."),
    "create": ("containers:create", "Make a container without starting it."),
    "start": ("containers:start", "Start containers that do not run."),
    "stop": ("lifecycle:stop", "Stop containers: stop signal, then SIGKILL."),
    "kill": ("lifecycle:kill", "Send containers a signal."),
    "rm": ("lifecycle:rm", "Remove containers."),
    "wait": ("lifecycle:wait", "Wait until containers end; print their exit codes."),
    "restart": ("lifecycle:restart", "Stop containers, and start them again."),
    "pause": ("lifecycle:pause", "Freeze all processes of containers."),
    "unpause": ("lifecycle:unpause", "Let paused containers go on."),
    "rename": ("lifecycle:rename", "Give a container another name."),
    "update": ("lifecycle:update", "Change limits and restart policies of containers."),
    "exec": ("execs:exec_", "Run a command in a running container."),
    "attach": ("execs:attach", "Join a running container's streams."),
    "cp": ("files:cp", "Copy files between a container and here."),
    "diff": ("files:diff", "Show what a container changed of its image."),
    "commit": ("files:commit", "Make an image of what a container has become."),
    "export": ("files:export", "Write a container's filesystem as a tar."),
    "top": ("watching:top", "Show a container's processes."),
    "stats": ("watching:stats", "Show what containers use."),
    "events": ("watching:events", "Show what happens."),
    "container": ("", "Work with containers: all of the above, and ls, prune."),
    "volume": ("", "Work with volumes: create, ls, inspect, rm, prune."),
    "ps": ("listing:ps", "List containers."),
    "logs": ("logs:logs", "Show what a container wrote."),
    "why": ("why:why", "Tell why a container ended or could not start."),
    "inspect": ("inspection:inspect", "Show everything about containers, as JSON."),
    "pull": ("transfers:pull", "Fetch images from their registries and unpack them."),
    "push": ("transfers:push", "Send an image to a registry."),
    "build": ("builds:build", "Make an image from a Dockerfile."),
    "builder": ("", "Work with the builder's cache: ls, prune."),
    "tag": ("images:tag", "Give an image one more name."),
    "images": ("images:ls", "List images."),
    "rmi": ("images:rm", "Remove images."),
    "save": ("transfers:save", "Write images to a tar."),
    "load": ("transfers:load", "Load images from a tar."),
    "import": ("transfers:import_", "Make an image of a filesystem's tar; load an OCI layout."),
    "history": ("image_details:history", "Show the steps that made an image."),
    "image": ("", "Work with images: ls, inspect, mount, prune, ..."),
    "login": ("registries:login", "Log in to a registry."),
    "logout": ("registries:logout", "Forget the login at a registry."),
    "content": ("", "Work with what is stored: check, ls."),
    "snapshotter": ("", "Work with snapshotters: ls."),
    "network": ("", "Work with networks: create, ls, inspect, rm, prune, connect, disconnect."),
    "port": ("networks:port", "Show what ports of the host a container has."),
    "compose": ("compose:compose", "Run applications of many containers from compose files."),
    "gc": ("garbage:gc", "Remove what nothing refers to; say why the rest is kept."),
    "runtime": ("", "Work with runtimes: ls."),
    "namespace": ("", "Work with namespaces: ls, create, label, inspect, rm."),
    "system": ("", "Work with the whole: info, df, prune, events."),
    "info": ("system:info", "Show what the daemon is, has, and runs on."),
    "completion": ("completion:completion", "Print a script for a shell's completion."),
    "man": ("completion:man", "Print the manual page."),
    "plugins": ("daemon:plugins", "List the daemon's plugins and how they fare."),
    "version": ("daemon:version", "Show the versions of corectl and the daemon."),
}
_BUILDER = {
    "ls": ("builder:ls", "List what the cache of builds holds."),
    "prune": ("builder:prune", "Remove what the cache of builds holds."),
}
_IMAGE = {
    "build": ("builds:build", "Make an image from a Dockerfile."),
    "history": ("image_details:history", "Show the steps that made an image."),
    "import": ("transfers:import_", "Make an image of a filesystem's tar; load an OCI layout."),
    "inspect": ("image_details:inspect", "Show everything about images, as JSON."),
    "load": ("transfers:load", "Load images from a tar."),
    "ls": ("images:ls", "List images."),
    "list": ("images:ls", "List images."),
    "mount": ("image_mounts:mount", "Show an image's files in a directory."),
    "prune": ("images:prune", "Remove images without names, or all unused ones."),
    "pull": ("transfers:pull", "Fetch images from their registries and unpack them."),
    "push": ("transfers:push", "Send an image to a registry."),
    "rm": ("images:rm", "Remove images."),
    "remove": ("images:rm", "Remove images."),
    "save": ("transfers:save", "Write images to a tar."),
    "tag": ("images:tag", "Give an image one more name."),
    "unmount": ("image_mounts:unmount", "Take what mount made away again."),
}
_CONTENT = {
    "check": ("content:check", "Verify all blobs, snapshots and records; --repair mends them."),
    "ls": ("content:ls", "List blobs."),
}
_SNAPSHOTTER = {
    "ls": ("snapshotters:ls", "List snapshotters: which work here, and what they hold."),
}
_NETWORK = {
    "create": ("networks:create", "Make a network."),
    "ls": ("networks:ls", "List networks."),
    "inspect": ("networks:inspect", "Show everything about networks, as JSON."),
    "rm": ("networks:rm", "Remove networks."),
    "prune": ("networks:prune", "Remove networks that no container wants."),
    "connect": ("networks:connect", "Put a container into one more network."),
    "disconnect": ("networks:disconnect", "Take a container out of a network."),
}
_CONTAINER = {
    **{
        name: _ROOT[name]
        for name in (
            "attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause",
            "port", "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unpause",
            "update", "wait",
        )
    },
    "inspect": ("inspection:inspect_container", "Show everything about containers, as JSON."),
    "ls": ("listing:ps", "List containers."),
    "list": ("listing:ps", "List containers."),
    "ps": ("listing:ps", "List containers."),
    "prune": ("lifecycle:prune", "Remove all containers that do not run."),
}  # fmt: skip
_VOLUME = {
    "create": ("volumes:create", "Make a volume."),
    "ls": ("volumes:ls", "List volumes."),
    "list": ("volumes:ls", "List volumes."),
    "inspect": ("volumes:inspect", "Show everything about volumes, as JSON."),
    "rm": ("volumes:rm", "Remove volumes that no container has."),
    "remove": ("volumes:rm", "Remove volumes that no container has."),
    "prune": ("volumes:prune", "Remove volumes that no container has."),
}
_RUNTIME = {"ls": ("runtimes:ls", "List the runtimes, and whether they work here.")}
_NAMESPACE = {
    "ls": ("namespaces:ls", "List namespaces."),
    "create": ("namespaces:create", "Make a namespace."),
    "label": ("namespaces:label", "Set labels of a namespace."),
    "inspect": ("namespaces:inspect", "Show namespaces with their labels, as JSON."),
    "rm": ("namespaces:rm", "Remove namespaces that are empty."),
}
_SYSTEM = {
    "info": ("system:info", "Show what the daemon is, has, and runs on."),
    "df": ("disk_usage:df", "Show what takes how much of the disk."),
    "prune": ("system:prune", "Remove what nobody uses."),
    "events": ("watching:events", "Show what happens."),
}
_GROUPS = {
    "namespace": _NAMESPACE,
    "system": _SYSTEM,
    "builder": _BUILDER,
    "container": _CONTAINER,
    "volume": _VOLUME,
    "runtime": _RUNTIME,
    "image": _IMAGE,
    "content": _CONTENT,
    "snapshotter": _SNAPSHOTTER,
    "network": _NETWORK,
}


class LazyGroup(click.Group):
    """A group that knows its commands as name -> (module:attribute in a package, help)."""

    def __init__(
        self,
        name: str,
        entries: Mapping[str, tuple[str, str]],
        help: str,
        package: str = "corectl.commands",
    ) -> None:
        super().__init__(name, help=help, subcommand_metavar="COMMAND [ARG]...")
        self._entries = entries
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._entries:
            return None
        place, help = self._entries[cmd_name]
        if not place:
            return LazyGroup(cmd_name, _GROUPS[cmd_name], help)
        module, _, attribute = place.partition(":")
        command = getattr(import_module(f"{self._package}.{module}"), attribute)
        assert isinstance(command, click.Command)
        if ctx.resilient_parsing:  # a shell wants to complete a line
            from corectl.completion import attach

            attach(self.name or "", command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a name that is not there is told with the one that was meant."""
        if ctx.resilient_parsing or args[0].startswith("-") or args[0] in self._entries:
            name, command, rest = super().resolve_command(ctx, args)
            if command is not None and any("=" in word for word in rest):
                from corectl.truths import spelled

                rest = spelled(command, rest)
            return name, command, rest
        from corectl import suggestions

        groups = _GROUPS if self._entries is _ROOT else {}
        meant = suggestions.commands(args[0], self._entries, groups)
        raise click.UsageError(f"No such command '{args[0]}'{suggestions.question(meant)}", ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Its commands, without importing them, and its options."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=help)
            for name, (_, help) in self._entries.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of --help, without importing what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in self._entries.items()])


def build() -> click.Group:
    """The command ``corectl`` with its global options."""
    group = LazyGroup("corectl", _ROOT, "Run containers with cored.")
    group.params = [
        click.Option(
            ["-H", "--host", "--address"],
            default="",
            metavar="ADDRESS",
            help="Daemon: a socket, or tcp://host:port with TLS  [CORED_HOST, CORED_ADDRESS; "
            "/run/cored/cored.sock]",
        ),
        click.Option(
            ["--tlscacert"], default="", metavar="FILE", help="Who vouches for the daemon."
        ),
        click.Option(["--tlscert"], default="", metavar="FILE", help="Our certificate."),
        click.Option(
            ["--tlskey"],
            default="",
            metavar="FILE",
            help="Its key  [ca.pem, cert.pem, key.pem in CORED_CERT_PATH or ~/.cored]",
        ),
        click.Option(["--tlsverify"], is_flag=True, hidden=True, help="Always so."),
        click.Option(
            ["-n", "--namespace"],
            envvar="CORED_NAMESPACE",
            default="default",
            show_default=True,
            show_envvar=True,
            help="Namespace to work in.",
        ),
        click.Option(["--debug"], is_flag=True, help="Show tracebacks of errors."),
    ]
    group.callback = _globals
    if "_CORECTL_COMPLETE" in os.environ:
        from corectl.completion import attach, register

        register()
        attach("", group)
    return group


@click.pass_obj
def _globals(
    session: Session,
    host: str,
    tlscacert: str,
    tlscert: str,
    tlskey: str,
    tlsverify: bool,
    namespace: str,
    debug: bool,
) -> None:
    from cored.client.hosts import host_of, tls_of

    session.namespace, session.debug = namespace, debug
    session.address = host_of(host)
    session.tls = tls_of(session.address, tlscacert, tlscert, tlskey)

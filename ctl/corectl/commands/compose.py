"""compose: the group; its commands are in corectl.compose.commands, imported when called."""

from __future__ import annotations

from collections.abc import Sequence

import click

from corectl.session import Session
from corectl.tree import LazyGroup

__all__ = ["compose"]

_COMMANDS = {
    "up": ("up:up", "Make and start what the files describe; follow it, or -d."),
    "down": ("down:down", "Stop and remove containers and networks; -v volumes, too."),
    "ps": ("listing:ps", "List the project's containers."),
    "ls": ("listing:ls", "List projects."),
    "images": ("listing:images", "List the images of the project's containers."),
    "port": ("listing:port", "Show where a service's port is published."),
    "logs": ("logs:logs", "Show what the services wrote."),
    "config": ("config:config", "Show the resolved model; -q only checks it."),
    "create": ("up:create", "Make the containers without starting them."),
    "start": ("lifecycle:start", "Start containers that are there."),
    "stop": ("lifecycle:stop", "Stop containers."),
    "restart": ("lifecycle:restart", "Stop containers and start them again."),
    "kill": ("lifecycle:kill", "Send containers a signal."),
    "rm": ("lifecycle:rm", "Remove containers that do not run."),
    "pause": ("lifecycle:pause", "Suspend containers."),
    "unpause": ("lifecycle:unpause", "Let suspended containers go on."),
    "wait": ("lifecycle:wait", "Wait until services end; exits with the code of the first."),
    "scale": ("up:scale", "Set how many containers services have."),
    "run": ("run:run", "Run one command in a new container of a service."),
    "exec": ("processes:exec_", "Run a command in a service's container."),
    "attach": ("processes:attach", "Join a service's container."),
    "top": ("processes:top", "Show the processes of the containers."),
    "stats": ("processes:stats", "Show what the containers use."),
    "events": ("processes:events", "Show what happens to the containers."),
    "cp": ("processes:cp", "Copy files to and from a service's container."),
    "pull": ("images:pull", "Fetch the services' images."),
    "push": ("images:push", "Send the services' images to their registries."),
    "build": ("images:build", "Build the services' images."),
    "watch": ("watch:watch", "Do what files' changes ask for, until Ctrl-C."),
    "version": ("listing:version", "Show the version."),
}


@click.pass_context
def _options(
    context: click.Context,
    files: Sequence[str],
    name: str,
    profiles: Sequence[str],
    env_files: Sequence[str],
    directory: str,
    ansi: str,
    progress: str,
    parallel: int,
    dry_run: bool,
    all_resources: bool,
    compatibility: bool,
) -> None:
    from corectl.compose.application import Application
    from corectl.compose.files import Request

    session = context.obj
    assert isinstance(session, Session)
    request = Request(files, directory, name, profiles, env_files)
    context.obj = Application(
        session, request, dry_run=dry_run, ansi=ansi, progress=progress, parallel=parallel
    )


compose = LazyGroup(
    "compose",
    _COMMANDS,
    "Run applications of many containers from compose files.",
    "corectl.compose.commands",
)
compose.params = [
    click.Option(["-f", "--file", "files"], multiple=True, help="Compose file; later ones win."),
    click.Option(["-p", "--project-name", "name"], default="", help="Name of the project."),
    click.Option(
        ["--profile", "profiles"], multiple=True, help="Profile that is active; * is all."
    ),
    click.Option(["--env-file", "env_files"], multiple=True, help="Variables, in place of .env."),
    click.Option(
        ["--project-directory", "directory"], default="", help="Where relative paths begin."
    ),
    click.Option(
        ["--ansi"],
        type=click.Choice(["auto", "never", "always"]),
        default="auto",
        envvar="COMPOSE_ANSI",
        help="When to use colours.",
    ),
    click.Option(
        ["--progress"],
        type=click.Choice(["auto", "plain", "tty", "quiet", "json"]),
        default="auto",
        help="How steps are told; quiet does not.",
    ),
    click.Option(
        ["--parallel"],
        type=click.IntRange(-1),
        default=-1,
        envvar="COMPOSE_PARALLEL_LIMIT",
        help="Steps at once at most; -1 is 32.",
    ),
    click.Option(["--dry-run"], is_flag=True, help="Only say what would be done."),
    click.Option(["--all-resources"], is_flag=True, hidden=True),
    click.Option(["--compatibility"], is_flag=True, hidden=True),
]
compose.callback = _options

"""login and logout: the user at a registry."""

from __future__ import annotations

import sys

import click

from corectl.session import Session
from cored.errors import InvalidArgument

__all__ = ["login", "logout"]


@click.command()
@click.argument("server", required=False, default="")
@click.option("-u", "--username", default="", help="User name.")
@click.option("-p", "--password", default=None, help="Password; others can see it: better not.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.pass_obj
def login(
    session: Session, server: str, username: str, password: str | None, password_stdin: bool
) -> None:
    """Log in to a registry (Docker Hub when none is named), and remember it as docker does."""
    from corectl.credentials import Login, Logins, message

    if password_stdin:
        if password is not None:
            raise click.UsageError("--password and --password-stdin exclude each other")
        if not username:
            raise click.UsageError("--password-stdin needs --username")
        password = sys.stdin.read().rstrip("\r\n")
    elif password is not None:
        click.echo("Warning: others can see a password on the command line: use --password-stdin",
                   err=True)  # fmt: skip
    logins = Logins()
    known = logins.get(server) if not username and password is None else None
    if known is None:
        known = Login(*_asked(username, password))
    identity = session.workloads.login(message(server, known))
    place = logins.put(
        server, Login(known.username, known.password, identity or known.identity_token)
    )
    if place:
        click.echo(f"Warning: the password is kept unencrypted in {place}; a credential helper "
                   "(credsStore) would keep it better", err=True)  # fmt: skip
    click.echo("Login Succeeded")


def _asked(username: str, password: str | None) -> tuple[str, str]:
    """What was not given, from the user."""
    if not (username and password is not None) and not sys.stdin.isatty():
        raise InvalidArgument(
            "login: there is no terminal to ask on", hint="use --username and --password-stdin"
        )
    if not username:
        username = click.prompt("Username", err=True)
    if password is None:
        password = click.prompt("Password", hide_input=True, err=True)
    if not password:
        raise InvalidArgument("login: the password is empty")
    return username, password


@click.command()
@click.argument("server", required=False, default="")
def logout(server: str) -> None:
    """Forget the login at a registry (Docker Hub when none is named)."""
    from corectl.credentials import Logins
    from corectl.docker_config import server_key

    key = server_key(server)
    if Logins().erase(server):
        click.echo(f"Removing login credentials for {key}")
    else:
        click.echo(f"Not logged in to {key}")

"""completion and man: what shells and man(1) want to know."""

from __future__ import annotations

import click

__all__ = ["completion", "man"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that lets a shell complete commands, options and names.

    \b
    bash: source <(corectl completion bash)
    zsh:  source <(corectl completion zsh)
    fish: corectl completion fish | source
    """
    from corectl.completion import script

    click.echo(script(shell))


@click.command()
@click.pass_context
def man(context: click.Context) -> None:
    """Print the manual page, for all commands: corectl man | man -l -"""
    from corectl.manual import page

    root = context.find_root().command
    assert isinstance(root, click.Group)
    click.echo(page(root), nl=False)

"""`python -m server.models`: check, publish and roll back model folders, and have the server take them."""

from collections.abc import Sequence

from server.cli import run


def main(arguments: Sequence[str]) -> None:
    """Do what one of the commands says."""
    # Imported here: without its libraries the command says so.
    from server.publish.commands import main as command

    command(arguments)


if __name__ == "__main__":
    run(main)

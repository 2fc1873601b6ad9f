"""`hotrow COMMAND …`: finds the code, and becomes `python -m` of the command's module.

In the wheel the code lies in `hotrow/_app`, so that no package of yours called `server`
or `train` is hidden by ours, nor ours by yours: only the commands look there, first.
"""

import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hotrow.commands import COMMANDS, OWN, Command

#: Tells the command that it was typed so (`server/cli.py`): its help then names no module.
_TYPED = "_HOTROW"
_WRONG_USAGE = 2


def code() -> Path:
    """The folder that the code lies in: in the wheel one of ours, in a checkout the root."""
    here = Path(__file__).parent
    return here / "_app" if (here / "_app").is_dir() else here.parent


def main() -> None:
    """Run what the first word asks for."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        run(COMMANDS[name], words)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `hotrow doctor | head` is no error
    if name in OWN and {"--help", "-h"} & set(words):
        print(f"usage: hotrow {name}{' bash | zsh | fish' if name == 'completion' else ''}\n\n{OWN[name]}")
    elif name == "doctor":
        from hotrow.doctor import main as doctor

        sys.exit(doctor())
    elif name == "completion":
        from hotrow.completion import main as completion

        sys.exit(completion(words))
    elif name in ("--version", "-V"):
        print(installed_version())
    elif name in ("--help", "-h", "help"):
        print(usage())
    else:
        shown = repr(name[:60])
        print(f"expected a command of hotrow, got {shown}: `hotrow --help` lists them.", file=sys.stderr)
        sys.exit(_WRONG_USAGE)


def installed_version() -> str:
    """The version of the package, of a checkout that is not installed "not installed"."""
    try:
        return version("hotrow")
    except PackageNotFoundError:
        return "not installed"


def usage() -> str:
    """All commands, a line each."""
    words = {name: command.what for name, command in COMMANDS.items()} | OWN
    width = max(map(len, words))
    lines = [f"  {name:<{width}}  {what}" for name, what in words.items()]
    return "\n".join(["usage: hotrow COMMAND …", "", *lines, "", "Each says with --help what it takes."])


def run(command: Command, words: Sequence[str]) -> None:
    """Become the command."""
    module, *first = command.module.split()
    if module in ("server", "ui"):
        words = with_models(words)
    sys.stdout.flush()
    arguments = [sys.executable, "-m", module, *first, *words]
    os.execve(sys.executable, arguments, environment(command))


def with_models(words: Sequence[str]) -> list[str]:
    """Words before the first option name models; without any, and without the usual one, ours is served."""
    count = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    options = list(words[count:])
    names_models = any(word.split("=")[0] in ("--model", "--help", "-h") for word in options)
    models = list(words[:count])
    if not (models or names_models or "HOTROW_MODEL" in os.environ or Path("models/credit").is_dir()):
        models = [str(code() / "models" / "credit")]
    return [*(word for model in models for word in ("--model", model)), *options]


def environment(command: Command) -> dict[str, str]:
    """Where the command, and the processes it starts, find our code: before everything else."""
    paths = [str(code())]
    if command.imports_yours:
        paths.append(str(Path.cwd()))
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    # Else the folder one is in would come first, with whatever is called `server` there.
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", _TYPED: "1"}


if __name__ == "__main__":
    main()

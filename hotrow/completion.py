"""`hotrow completion SHELL`: commands, then options as `--help` names them, then files."""

import sys
from collections.abc import Sequence

from hotrow.commands import COMMANDS, OWN

_BASH = """_hotrow() {{
    local word=${{COMP_WORDS[COMP_CWORD]}}
    if [ "$COMP_CWORD" = 1 ]; then
        COMPREPLY=($(compgen -W "{names}" -- "$word"))
    elif [ "${{word#-}}" != "$word" ]; then
        local options
        options=$(hotrow "${{COMP_WORDS[1]}}" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]+' | sort -u)
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _hotrow hotrow"""
_FISH = """complete -c hotrow -n __fish_use_subcommand -f -a "{names}"
complete -c hotrow -n 'not __fish_use_subcommand; and string match -q -- "-*" (commandline -ct)' -f \\
    -a '(hotrow (commandline -opc)[2] --help 2>/dev/null | string match -ar -- "--[a-z][a-z-]+")'"""
SCRIPTS = {"bash": _BASH, "zsh": "autoload -U +X bashcompinit && bashcompinit\n" + _BASH, "fish": _FISH}


def main(words: Sequence[str]) -> int:
    """Print the script of a shell."""
    if len(words) != 1 or words[0] not in SCRIPTS:
        print(f"expected one of {', '.join(SCRIPTS)}, got {' '.join(words)[:60] or 'none'}.", file=sys.stderr)
        return 2
    print(SCRIPTS[words[0]].format(names=" ".join([*COMMANDS, *OWN])))
    return 0

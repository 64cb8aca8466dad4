"""`lt-rebalance completion`: a completion script for bash or zsh, generated from the parser."""

import argparse

from lt_rebalance.cli.parser import make_parser

_SCRIPT = """\
# Completion of lt-rebalance for bash: source <(lt-rebalance completion bash)
_lt_rebalance() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    COMPREPLY=()
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W "%(commands)s --help" -- "$word"))
        return
    fi
    case "${COMP_WORDS[1]} $before" in
%(values)s
    esac
    if [[ $word != -* ]]; then
        COMPREPLY=($(compgen -f -- "$word"))
        return
    fi
    case "${COMP_WORDS[1]}" in
%(options)s
    esac
}
complete -o filenames -F _lt_rebalance lt-rebalance
"""
_ZSH = "autoload -Uz bashcompinit && bashcompinit\n"


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    print((_ZSH if options.shell == "zsh" else "") + make_script(), end="")
    return 0


def make_script() -> str:
    """Return the script for bash, which zsh understands after bashcompinit."""
    values, options = [], []
    commands = list_commands(make_parser())
    for name, parser in commands.items():
        flags = [flag for action in parser._actions for flag in action.option_strings]
        options.append(f'        {name}) COMPREPLY=($(compgen -W "{" ".join(flags)}" -- "$word"));;')
        for action in parser._actions:
            places = action.option_strings or [name]  # a positional follows the command directly
            if action.choices:
                patterns = "|".join(f'"{name} {place}"' for place in places)
                words = " ".join(map(str, action.choices))
                values.append(f'        {patterns}) COMPREPLY=($(compgen -W "{words}" -- "$word")); return;;')
    parts = {"commands": " ".join(commands), "values": "\n".join(values), "options": "\n".join(options)}
    return _SCRIPT % parts


def list_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by name."""
    (subparsers,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return dict(subparsers.choices)

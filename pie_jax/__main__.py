"""`pie COMMAND ...`, which is `python -m pie_jax COMMAND ...`: finds the command's module and hands over."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from pie_jax import __version__
from pie_jax.cli import command
from pie_jax.cli.commands import COMMANDS, GROUPS, Command
from pie_jax.errors import EXIT_OK, PackError, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run `pie` with these arguments; returns the exit code of errors.py. JAX is imported by the command alone."""
    argv = list(sys.argv[1:] if argv is None else argv)
    found: list[Command] = []
    code = command.guarded(lambda: _choose(argv, found), debug="--debug" in argv)
    if not found:
        return code
    return importlib.import_module(found[0].module).main(argv[len(found[0].words):])


def usage(*, group: str | None = None) -> str:
    """The list of all commands, or of one group's."""
    shown = [entry for entry in COMMANDS if group in (None, entry.words[0])]
    wide = max(len(" ".join(entry.words)) for entry in shown)
    lines = [f"usage: pie {group or ''}{' ' if group else ''}COMMAND ...   (pie COMMAND --help tells its options)"]
    before = None
    for entry in shown:
        head = entry.words[0] if len(entry.words) > 1 else None
        if head != before:
            lines += ["", f"{head}: {GROUPS[head]}"] if head else [""]
        elif before is None and len(lines) == 1:
            lines.append("")
        before = head
        lines.append(f"  {' '.join(entry.words):<{wide}}  {entry.help}")
    return "\n".join(lines)


def completion(shell: str) -> str:
    """A completion script of the words of all commands for "bash" or "zsh"."""
    first = sorted({entry.words[0] for entry in COMMANDS})
    cases = "\n".join(f"    {group}) words='{' '.join(e.words[1] for e in COMMANDS if e.words[0] == group)}' ;;"
                      for group in GROUPS)
    script = f"""_pie() {{
  local words=''
  if [ "$COMP_CWORD" = 1 ]; then words='{' '.join([*first, 'completion'])}'
  elif [ "$COMP_CWORD" = 2 ]; then case "${{COMP_WORDS[1]}}" in
{cases}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _pie pie"""
    return script if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{script}"


def _choose(argv: list[str], found: list[Command]) -> int:
    """Put the command that `argv` names into `found`, or answer `argv` here."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return EXIT_OK if argv else UsageError.exit_code
    if argv[0] == "--version":
        print(f"pie_jax {__version__}")
        return EXIT_OK
    if argv[0] == "completion":
        if argv[1:] not in (["bash"], ["zsh"]):
            raise UsageError("pie completion: expected bash or zsh; eval \"$(pie completion bash)\" switches it on")
        print(completion(argv[1]))
        return EXIT_OK
    if argv[0] in GROUPS and (len(argv) == 1 or argv[1] in ("-h", "--help")):
        print(usage(group=argv[0]))
        return EXIT_OK if len(argv) > 1 else UsageError.exit_code
    asked = tuple(argv[:2] if argv[0] in GROUPS else argv[:1])
    match = next((entry for entry in COMMANDS if entry.words == asked), None)
    if match is None:
        known = [*GROUPS, *(" ".join(e.words) for e in COMMANDS)]
        if argv[0] in GROUPS:
            known = [" ".join(e.words) for e in COMMANDS if e.words[0] == argv[0]]
        raise UsageError(f"pie: unknown command {' '.join(asked)!r}{command.did_you_mean(' '.join(asked), known)}; "
                         "see pie --help")
    if importlib.util.find_spec(match.module.split(".")[0]) is None:
        raise PackError(f"pie {' '.join(asked)}: the package {match.module.split('.')[0]!r} is not installed; install "
                        "pie_jax whole")
    found.append(match)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())

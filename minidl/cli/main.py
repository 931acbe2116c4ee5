"""`minidl`: finds the command, runs it, and turns errors into one line and an exit status.

Exit status: 0 success; 1 the work was done or begun, but failed; 2 wrong usage or an unusable file; 130 Ctrl-C; 141 the
reader of the output went away, as in `minidl models | head -1` (128 + SIGPIPE, as shells have it).
"""
import argparse
import difflib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import ModuleType
from typing import NoReturn

from minidl.cli import bench, check, convert, demo, export, homework, info, models, predict, summary
from minidl.cli.errors import UserError
from minidl.cli.files import reason

COMMANDS: dict[str, ModuleType] = {
    "bench": bench, "check": check, "convert": convert, "demo": demo, "export": export, "homework": homework, "info": info,
    "models": models, "predict": predict, "summary": summary}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line (without the program's name) and returns the exit status."""
    try:
        status = _main(argv)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("\nminidl: interrupted; no half-written file was left behind", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _forget_output()
        return 141
    except OSError as error:  # the commands turn their own into UserErrors: this is what flush says on a full disk
        _forget_output()
        print(f"minidl: error: cannot write the output ({reason(error)})", file=sys.stderr)
        return 1


def _main(argv: Sequence[str] | None) -> int:
    parser = make_parser()
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed help or an error
        return int(stop.code or 0)
    if args.command is None:
        parser.print_help()
        return 0
    return _run(args)


def _forget_output() -> None:
    """What is left of the output goes nowhere, so that Python does not complain at exit that it cannot be written."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def make_parser() -> "Parser":
    """The parser with one subparser per command."""
    parser = Parser(prog="minidl", description="minidl: a deep-learning framework small enough to be read in a weekend.",
                    epilog="`minidl COMMAND --help` explains a command. Start with `minidl demo`.", allow_abbrev=False)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    for name, module in COMMANDS.items():
        sub = commands.add_parser(name, help=module.HELP, description=module.__doc__, allow_abbrev=False,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.add_argument("--debug", action="store_true", default=argparse.SUPPRESS,
                         help="show the traceback of an error")
        module.add_arguments(sub)
        sub.set_defaults(command=name)
    return parser


class Parser(argparse.ArgumentParser):
    """argparse's, which also guesses what a misspelt word was meant to be."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        hint = self._meant(message)
        self.exit(2, f"{self.prog}: error: {message}\n{hint or f'See `{self.prog} --help`.'}\n")

    def _meant(self, message: str) -> str:
        known = [option for action in self._actions for option in action.option_strings]
        choices = [str(choice) for action in self._actions for choice in (action.choices or ())]
        if message.startswith("unrecognized arguments"):  # reported by the topmost parser, who knows no sub-options
            known = sorted({option for module in COMMANDS.values() for option in _options_of(module)} | set(known))
        words = re.findall(r"--?[\w-]+", message) if "unrecognized" in message else re.findall(r"'([^']+)'", message)[:1]
        for word in words:
            close = difflib.get_close_matches(word, known + choices, n=1, cutoff=0.6)
            if close:
                return f"Did you mean {close[0]}? See `{self.prog} --help`."
        return ""


def _options_of(module: ModuleType) -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    return list(_options_in(parser))


def _options_in(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Those of its subcommands, too."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _options_in(sub)


class _Version(argparse.Action):
    """Prints the version only when asked, so that no other command pays for finding it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from minidl import __version__
        print(f"minidl {__version__}")
        parser.exit(0)


def _run(args: argparse.Namespace) -> int:
    try:
        return COMMANDS[args.command].run(args)
    except BrokenPipeError:
        raise
    except SystemExit:  # rich leaves so where the reader of the output has gone
        raise BrokenPipeError from None
    except Exception as error:
        if args.debug:
            raise
        print(f"minidl {args.command}: error: {_one_line(error, args.command)}", file=sys.stderr)
        return error.status if isinstance(error, UserError) else 1


def _one_line(error: Exception, command: str) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{reason(error)}{place} (minidl {command} --debug shows the traceback)"
    return f"{type(error).__name__}: {text} (minidl {command} --debug shows the traceback)"

"""The ``command-line`` directive: a program's reference, written from its argument parser.

    .. command-line:: aquamvs.cli:build_parser

The parser is the only source, so that the page cannot drift from the program.
"""

import argparse
import re
from collections.abc import Collection, Iterator
from importlib import import_module

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_USAGE_WIDTH = 88


class CommandLine(SphinxDirective):
    """One section per command: purpose, usage, arguments and options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build the sections and hand them to docutils."""
        module, function = self.arguments[0].split(":")
        parser = getattr(import_module(module), function)()
        lines = StringList(list(_parser_lines(parser)), source=self.arguments[0])
        section = nodes.section()
        section.document = self.state.document
        self.state.nested_parse(lines, 0, section, match_titles=True)
        return section.children


def _parser_lines(parser: argparse.ArgumentParser) -> Iterator[str]:
    commands = _commands(parser)
    yield from _command_lines(parser.prog, parser, "", titled=not commands)
    shared = _shared([command for command, _ in commands.values()])
    if shared:
        yield from ("Every command also takes", "")
        for action in shared:
            yield from _option_lines(action)
    names = {action.dest for action in shared}
    for name, (command, summary) in commands.items():
        program = f"{parser.prog} {name}"
        yield from _command_lines(program, command, summary, titled=True, but=names)


def _shared(commands: list[argparse.ArgumentParser]) -> list[argparse.Action]:
    """Options that all commands have, with the same help."""
    if not commands:
        return []
    first, *others = [
        {(each.dest, each.help): each for each in command._actions if each.option_strings}
        for command in commands
    ]
    keys = [key for key in first if all(key in other for other in others)]
    return [first[key] for key in keys if not isinstance(first[key], argparse._HelpAction)]


def _commands(
    parser: argparse.ArgumentParser,
) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Subcommands with their one-line summaries, in the parser's order."""
    for action in parser._actions:  # argparse has no public way to list them
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (sub, summaries.get(name, "")) for name, sub in action.choices.items()}
    return {}


def _command_lines(
    program: str,
    parser: argparse.ArgumentParser,
    summary: str,
    *,
    titled: bool,
    but: Collection[str] = (),
) -> Iterator[str]:
    if titled:
        yield from (program, "-" * len(program), "")
    text = parser.description or summary
    yield from (*_escape(text).splitlines(), "")
    yield from (f".. program:: {program}", "", ".. code-block:: text", "")
    yield from (f"   {line}" for line in _usage(program, parser).splitlines())
    yield ""
    for action in parser._actions:
        left_out = action.help == argparse.SUPPRESS or action.dest in but
        if not left_out and not isinstance(
            action, argparse._HelpAction | argparse._SubParsersAction
        ):
            yield from _option_lines(action)
    if parser.epilog:
        yield from (*_escape(parser.epilog).splitlines(), "")


def _usage(program: str, parser: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(program, width=_USAGE_WIDTH)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _option_lines(action: argparse.Action) -> Iterator[str]:
    value = _value_name(action)
    if action.option_strings:
        shown = ", ".join(f"{flag} {value}".strip() for flag in action.option_strings)
    else:
        shown = value
    help_text = (action.help or "") % {**vars(action), "prog": ""}
    default = action.default
    if default not in (None, False, argparse.SUPPRESS) and "default" not in help_text:
        help_text += f" (default: {default})"
    yield from (f".. option:: {shown}", "")
    yield from (f"   {line}" for line in _escape(help_text).splitlines())
    yield ""


def _value_name(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    if action.metavar is not None:  # one name for each of several values
        return " ".join(action.metavar)
    if action.choices is not None:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    return action.dest.upper() if action.option_strings else action.dest


def _escape(text: str) -> str:
    """Help is plain text: keep reStructuredText from reading stars, bars, underscores and links."""
    return re.sub(r"([*|_\\]|(?<=\w):(?=//))", r"\\\1", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}

"""Build the tutorial notebooks from their scripts, or check that the two agree.

python docs/notebooks.py build [NAME ...]    execute notebooks_src/*.py into docs/tutorial/
python docs/notebooks.py check               read only; one line for each fault, exit code 1
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from notebook_tools.build import BuildError, build_notebook
from notebook_tools.check import find_faults
from notebook_tools.source import Project


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(description="Build or check the tutorial notebooks.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="execute the scripts and write the notebooks")
    build.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    commands.add_parser("check", help="compare scripts and notebooks without changing either")
    arguments = parser.parse_args(argv)
    project = Project.read(arguments.root)
    if arguments.command == "build":
        return _build(project, arguments.names)
    return _check(project)


def _build(project: Project, names: Sequence[str]) -> int:
    for name in names or sorted(path.stem for path in project.script_folder.glob("*.py")):
        try:
            path = build_notebook(project, name)
        except BuildError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{path.relative_to(project.root).as_posix()}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


def _check(project: Project) -> int:
    faults = find_faults(project)
    for fault in faults:
        print(fault)
    if not faults:
        print(f"{len(project.names())} notebooks agree with their scripts")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""The `skyloom` command: finds the subcommand, runs it, and turns errors into one clear line and an exit code."""

import difflib
import logging
import os
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from pydantic import ValidationError
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich_argparse import RawDescriptionRichHelpFormatter

from flows.lazy import resolve
from flows.services import quiet_environment
from flows.stages import STAGES
from model.errors import SkyloomError

FAILED, STOPPED = 2, 130
# The least level at which a package's records are shown. Prefect logs an error that it raises again: the last line
# of the command says it, once.
LEAST_LEVELS = {"prefect": logging.CRITICAL, "py.warnings": logging.ERROR, "OpenGL": logging.WARNING}
LEAST_LEVELS |= dict.fromkeys(
    ("PIL", "alembic", "httpx", "httpx2", "matplotlib", "mlflow", "ray", "urllib3"), logging.WARNING
)

INTRO = """[bold]Skyloom[/] turns a folder of raw video into a served video model.

  [argparse.prog]skyloom demo[/]                          the whole line on films rendered here, ~15 minutes
  [argparse.prog]skyloom run --source DIR[/]              the same on your own videos
  [argparse.prog]skyloom generate "a red ball rolls" [/]  one video from the trained model"""

OUTRO = """[argparse.prog]skyloom COMMAND --help[/] lists its flags; every setting of a recipe is one.
Whatever is done is kept: the same command again goes on where it was, even after a kill.
Results lie in [argparse.metavar]artifacts/[/], or in the folder that [argparse.metavar]SKYLOOM_HOME[/] names."""


@dataclass(frozen=True)
class Command:
    """One subcommand: `call` is `module:function`, imported only when it is chosen, and takes the arguments left."""

    call: str
    help: str


def _stage_commands() -> dict[str, Command]:
    return {name: Command("flows.commands.line:stage", stage.title) for name, stage in STAGES.items()}


GROUPS: dict[str, dict[str, Command]] = {
    "The line": {
        "demo": Command("flows.commands.line:demo", "from nothing to three served videos and a report"),
        "run": Command("flows.commands.line:run", "the same on a folder of your own videos"),
        "report": Command("flows.commands.line:report", "write the report of a run again"),
    },
    "Its stages, one by one": _stage_commands(),
    "The model at work": {
        "generate": Command("flows.commands.generate:generate", "make a video from a prompt, without a server"),
        "animate": Command("flows.commands.generate:animate", "make a video that begins with a picture"),
        "extend": Command("flows.commands.generate:extend", "make a video longer, forward or backward"),
        "loop": Command("flows.commands.generate:loop", "make a perfect loop from a prompt"),
        "join": Command("flows.commands.generate:join", "join two videos by a made transition"),
        "blend": Command("flows.commands.generate:blend", "turn one video into another"),
        "edit": Command("flows.commands.generate:edit", "change a video to what a prompt says"),
        "storyboard": Command("flows.commands.generate:storyboard", "make one video of several scenes"),
        "serve": Command("flows.commands.serve:serve", "serve the champion behind the OpenAI Videos API"),
        "verify": Command("flows.commands.verify:verify", "who made a video, from what, and whether to believe it"),
        "keys": Command("flows.commands.keys:keys", "make, list and revoke API keys of the server"),
        "export": Command("flows.commands.export:export", "write a run's model as small weights with a model card"),
    },
    "The machine": {
        "doctor": Command("flows.commands.doctor:doctor", "what this machine has and lacks"),
        "up": Command("flows.commands.services:up", "start Prefect, a worker, MLflow, Ray and Serve"),
        "down": Command("flows.commands.services:down", "stop what `up` started"),
        "quarantine": Command("flows.commands.quarantine:quarantine", "list the files that failed, or try again"),
        "bench": Command("flows.commands.bench:bench", "run the benchmarks and rewrite docs/benchmarks.md"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 the doctor found something lacking, 2 it could not be done, 130 stopped by Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        help_page().print_help()
        return 0
    if words[0] in ("-V", "--version"):
        Console().print(f"skyloom {version('skyloom')}", highlight=False)
        return 0
    return _dispatch(words[0], words[1:])


def _dispatch(name: str, rest: list[str]) -> int:
    errors = Console(stderr=True, highlight=False)
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean `skyloom {near[0]}`?" if near else "; `skyloom --help` lists all commands"
        errors.print(f"[red]skyloom:[/] there is no command {escape(repr(name))}{hint}", soft_wrap=True)
        return FAILED
    os.environ |= quiet_environment()
    set_up_logging()
    try:
        return resolve(command.call)(name, rest) or 0
    except SkyloomError as error:
        errors.print(f"[red]skyloom {name}:[/] {escape(str(error))}", soft_wrap=True)
    except ValidationError as error:
        errors.print(f"[red]skyloom {name}:[/] {escape(readable(error))}", soft_wrap=True)
    except KeyboardInterrupt:
        errors.print("\nStopped. The same command again goes on where it was.")
        return STOPPED
    return FAILED


def readable(error: ValidationError) -> str:
    """A pydantic error as one line: which setting, what is wrong, the value that was given."""
    return "; ".join(
        f"--{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']} (got {fault['input']!r})"
        for fault in error.errors()
    )


def set_up_logging() -> None:
    """Our own records go to the terminal at INFO, those of other packages from their least level on."""
    handler = RichHandler(show_path=False, show_level=False, omit_repeated_times=False, log_time_format="%H:%M:%S")
    handler.addFilter(lambda record: record.levelno >= LEAST_LEVELS.get(_package(record.name), logging.INFO))
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    # Ray warns on every start that a token guards the cluster, which is what we want
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def _package(logger: str) -> str:
    return logger if logger == "py.warnings" else logger.split(".", maxsplit=1)[0]


class _HelpFormatter(RawDescriptionRichHelpFormatter):
    """Headings as they are written, and one column for all commands."""

    group_name_formatter = str

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=16)


def help_page() -> ArgumentParser:
    """The parser that draws `skyloom --help`; it parses nothing, since each command parses its own flags."""
    parser = ArgumentParser(
        prog="skyloom",
        usage="%(prog)s COMMAND [--flags]",
        description=INTRO,
        epilog=OUTRO,
        formatter_class=_HelpFormatter,
        add_help=False,
    )
    for title, commands in GROUPS.items():
        group = parser.add_argument_group(title)
        for name, command in commands.items():
            group.add_argument(name, help=command.help, nargs="?")
    return parser

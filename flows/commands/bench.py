"""`skyloom bench`: runs benchmarks and writes what they found."""

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.table import Table

from flows.bench import BENCHMARKS, run_benchmark, write_page
from flows.commands.flags import Flags, read_flags
from model.errors import ConfigError


class BenchFlags(Flags):
    """Runs one benchmark, or all of them, and rewrites docs/benchmarks.md from every result there is."""

    names: CliPositionalArg[list[str]] = Field(default=[], description="which; all when not given")


def bench(name: str, arguments: list[str]) -> int:
    """Runs the chosen benchmarks; 1 when one missed its goal, else 0."""
    chosen = read_flags(BenchFlags, name, arguments).names or list(BENCHMARKS)
    unknown = [one for one in chosen if one not in BENCHMARKS]
    if unknown:
        raise ConfigError(
            f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS) or 'none yet'}"
        )
    results = [result for one in chosen for result in run_benchmark(one)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("benchmark", "ours", "against", "goal", "holds"):
        table.add_column(column)
    for result in results:
        mark = "[green]yes[/]" if result.holds else "[red]no[/]"
        table.add_row(result.name, result.ours_text, result.peer_text, result.goal, mark)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\nWritten: {write_page()}", soft_wrap=True)
    return 0 if all(result.holds for result in results) else 1

"""Results: what was measured, as a table for a terminal and as a Markdown file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.report import Result, show

HAND_WRITTEN = "<!-- What follows is written by hand; `make bench` keeps it. -->"


def print_result(console: Console, result: Result) -> None:
    """One benchmark's figures, goals and what was wrong."""
    table = Table(title=f"{result.bench} (median of {result.rounds})", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_column("goal")
    for row in _rows(result):
        table.add_row(*row)
    console.print(table)
    for name, why in result.skipped.items():
        console.print(f"skipped: {name}: {why}")
    for note in result.notes:
        console.print(note, highlight=False)
    for wrong in result.wrong:
        console.print(f"[bold red]WRONG[/]: {wrong}")


def write_results(path: Path, results: Sequence[Result]) -> None:
    """Keep the results as Markdown: each benchmark's section is replaced, others stay."""
    old = path.read_text() if path.exists() else ""
    generated, _, by_hand = old.partition(HAND_WRITTEN)
    sections = _sections(generated)
    for result in results:
        sections[result.bench] = _section(result)
    text = f"# Results of the benchmarks\n\n{''.join(sections.values())}{HAND_WRITTEN}{by_hand}"
    path.write_text(text.rstrip() + "\n")


def _sections(generated: str) -> dict[str, str]:
    parts = generated.split("\n## ")[1:]
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n\n" for part in parts}


def _section(result: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"## {result.bench}",
        "",
        f"`python -m bench {result.bench}`, {datetime.now(UTC):%Y-%m-%d}, median of "
        f"{result.rounds}; {result.machine}; {versions}.",
        "",
        "| what | value | goal |",
        "|---|---:|---|",
    ]
    lines += [f"| {' | '.join(row)} |" for row in _rows(result)]
    lines.append("")
    lines += [f"Skipped: {name}: {why}.\n" for name, why in result.skipped.items()]
    lines += [f"{note}\n" for note in result.notes]
    lines += [f"**Wrong**: {wrong}\n" for wrong in result.wrong]
    return "\n".join(lines) + "\n"


def _rows(result: Result) -> list[tuple[str, str, str]]:
    rows = [(name, show(value), "") for name, value in result.results.items()]
    rows += [(name, f"{show(value)} x", "") for name, value in result.ratios.items()]
    rows += [
        (goal.name, show(goal.value), f"{goal.goal}: {'met' if goal.met else '**missed**'}")
        for goal in result.goals
    ]
    return rows

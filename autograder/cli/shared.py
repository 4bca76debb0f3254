"""What the commands share: their common parameters, and how they speak."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from autograder import Refusal

console = Console(highlight=False)

CourseFolder = Annotated[Path, typer.Argument(help="The course's folder.")]
LessonName = Annotated[str, typer.Option("--lesson", help="The lesson's name, such as 03_lora.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def say(text: str) -> None:
    """Print a sentence as it is: no markup, no wrapping."""
    console.print(text, markup=False, soft_wrap=True)


def say_json(value: Any) -> None:
    """Print JSON and nothing else."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def confirmed(question: str, yes: bool) -> bool:
    """Whether to go on; without a terminal and without --yes, no."""
    return yes or (console.is_terminal and typer.confirm(question))


def compiled(pattern: str) -> re.Pattern[str] | None:
    """The regular expression of --pattern; raises Refusal where it cannot serve."""
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise Refusal(f"--pattern is no regular expression ({error}): mend {pattern!r}.") from None
    if pattern and "student" not in found.groupindex:
        raise Refusal(f"--pattern needs a group (?P<student>...) around the id, {pattern!r} has none.")
    return found if pattern else None

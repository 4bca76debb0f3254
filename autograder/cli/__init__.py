"""The `autograder` command: each subcommand calls the rooms in turn and says what came of it.

Exit status: 0 all is well; 1 something is left for a person to look at; 2 a mistake of the user's, said in
one sentence on stderr; 130 stopped by Ctrl-C. With --json, where a command has it, stdout has JSON alone.
"""

import sys

import typer

from autograder import Refusal
from autograder.cli import contests, courses, grading, results, submissions
from autograder.publish import PublishError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None)
for room in (courses, submissions, grading, contests, results):
    app.add_typer(room.app)


def main() -> None:
    """Run the command line; what a user got wrong is one sentence on stderr and exit status 2."""
    try:
        app()
    except (Refusal, PublishError) as reason:
        print(reason, file=sys.stderr)
        sys.exit(2)

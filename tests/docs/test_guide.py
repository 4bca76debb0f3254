"""The instructor's guides: every command prints what they show, and they name every command there is."""

import pytest
import typer

from autograder import cli

from .guide import GUIDES, commands, filled, run_all

TEXTS = [path.read_text(encoding="utf-8") for path in GUIDES]


@pytest.mark.timeout(600)
def test_every_command_prints_what_the_guide_shows():
    assert filled(TEXTS[0], run_all(commands(TEXTS[0]))) == TEXTS[0]


def test_both_languages_show_the_same_commands_and_outputs():
    assert commands(TEXTS[0]) == commands(TEXTS[1])
    blocks = [text.split("```")[1::2] for text in TEXTS]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize("text", TEXTS)
def test_every_command_is_in_the_guide_and_says_what_it_does(text):
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        assert f"autograder {name}" in text, name
        assert command.help
        assert all(p.help for p in command.params if p.name != "help"), name

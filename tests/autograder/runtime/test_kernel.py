"""What honest code needs of a walled kernel."""

from traitlets.config import Config

from autograder.course import configure
from tests.autograder.walled import run


def test_temporary_files_can_be_made_and_the_toy_model_read(tmp_path):
    configure(Config(), tmp_path)
    made, loaded = run(
        "import tempfile; print(tempfile.TemporaryFile().write(b'abc'))",
        "from toolkit import base_model; print(base_model('tiny').load().config.model_type)",
    )
    assert made == "3"
    assert loaded.endswith("llama")

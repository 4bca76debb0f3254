"""What the toolkit's tests share: the tiny random Llama, made once, away from the user's cache."""

from importlib.util import find_spec

import pytest

from tests.toolkit.lab import browser, lab  # noqa: F401 - fixtures
from toolkit.base_model import base_model
from toolkit.environment import mend_torchao

if find_spec("torchao"):  # under Colab's versions, as the first cell of every lesson does
    mend_torchao()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return base_model("tiny")

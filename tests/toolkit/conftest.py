"""What the toolkit's tests share: the tiny random Llama, made once, away from the user's cache."""

import pytest

from toolkit.base_model import base_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        return base_model("tiny")

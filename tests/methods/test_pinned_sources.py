"""Where a formula or a recipe comes from released code, its source names the repository and the commit."""

from __future__ import annotations

import re

import pytest

from w2s_fast import heads, losses, supervisions
from w2s_fast.methods import resolve
from w2s_fast.recipes.recipe import Recipe, shipped

SOURCES = {
    **{f"loss {one['name']}": str(one["source"]) for one in losses.describe()},
    **{f"head {one['name']}": str(one["source"]) for one in heads.describe()},
    **{f"supervision {one['name']}": str(one["source"]) for one in supervisions.describe()},
    **{f"method {one['method']}": str(one["source"]) for one in resolve.describe()},
    **{f"recipe {name}": Recipe.read(name).source for name in shipped()},
}
CODE = re.compile(r"github\.com/[\w.-]+/[\w-]+(@[0-9a-f]{7,40}\b|,? (\d{4}, )?\(?commit not at hand)?")
OWNERS = ("openai/", "ggjy/", "EleutherAI/", "mlbio-epfl/", "YuejiangLIU/", "SprocketLab/", "megvii-research/")


def pinned(source: str) -> bool:
    """Whether every repository in the text is one of github.com with its commit, or says that none is at hand."""
    named = CODE.finditer(source)
    bare = re.sub(r"github\.com/\S+", "", source)
    return all(match[1] for match in named) and not any(owner in bare for owner in OWNERS) and "its code" not in bare


@pytest.mark.parametrize("name", SOURCES)
def test_released_code_is_named_with_its_commit(name: str) -> None:
    assert SOURCES[name] and pinned(SOURCES[name]), SOURCES[name]


@pytest.mark.parametrize(
    "source",
    [
        "X 2024 and its code",
        "openai/weak-to-strong, vision",
        "github.com/openai/weak-to-strong, vision",
        "EleutherAI/w2s",
    ],
)
def test_a_source_without_a_commit_is_seen(source: str) -> None:
    assert not pinned(source)


def test_openai_s_method_names_the_commit_that_printed_its_numbers() -> None:
    assert "weak-to-strong@0a6d4ab" in SOURCES["method openai+lp"]
    assert "weak-to-strong@0a6d4ab" in SOURCES["recipe openai_vision_resnet50"]

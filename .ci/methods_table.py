"""Writes w2s_fast/methods/METHODS.md, the methods, supervisions and heads; `--check` fails where it is out of date."""

import sys
from pathlib import Path

from w2s_fast import heads, supervisions
from w2s_fast.methods.resolve import describe

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "w2s_fast" / "methods" / "METHODS.md"
TEST = "tests/methods/test_presets.py"
"""Where every method is fitted."""


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    return [
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join(":--" for _ in columns) + " |",
        *("| " + " | ".join(row) + " |" for row in cells),
    ]


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def checked(verified: bool) -> str:
    return "yes" if verified else "no"


def test_of_head(name: str) -> str:
    own = Path("tests") / "heads" / f"test_{name}.py"
    return str(own if (ROOT / own).is_file() else Path("tests") / "heads" / "test_heads.py")


def test_of_supervision(name: str) -> str:
    module = supervisions.SUPERVISIONS[name].partition(":")[0].rpartition(".")[2]
    return str(Path("tests") / "supervisions" / f"test_{module}.py")


def parameters(values: dict[str, object]) -> str:
    return code(", ".join(f"{key}={value!r}" for key, value in values.items()))


def document() -> str:
    """The whole file."""
    methods = [
        [code(m["method"]), code(m["head"]), code(m["loss"]), code(m["supervision"]),
         m["equation"].rpartition("; z")[0], parameters(m["settings"]), m["source"], checked(m["verified"]),
         TEST if m["supervision"] == "weak" else test_of_supervision(m["supervision"].partition("(")[0])]
        for m in describe()
    ]  # fmt: skip
    by_supervision = [
        [code(one["name"]), one["about"], code(one["equation"]), parameters(one["parameters"]), one["source"],
         checked(one["verified"]), test_of_supervision(one["name"])]
        for one in supervisions.describe()
        if one["name"] in supervisions.SUPERVISIONS
    ]  # fmt: skip
    of_heads = [
        [code(one["name"]), code(one["equation"]), parameters(one["parameters"]), one["source"],
         checked(one["verified"]), test_of_head(one["name"])]
        for one in heads.describe()
        if one["name"] in heads.HEADS
    ]  # fmt: skip
    lines = [
        "# Methods, supervisions and heads",
        "",
        "Made by `python .ci/methods_table.py`; a test holds it up to date. A method is a head, a loss, a supervision",
        "and the settings it brings (yours win); p = softmax(z / tau_s), w = softmax(weak / tau_w), t = share of the",
        "steps done. Any loss may be fitted with any head under any supervision: `--loss L --head H --supervision S`;",
        "losses are in [their own table](../losses/README.md). The grids are `w2s-fast sweep control` (heads x losses",
        "x starts x scales x temperatures) and `w2s-fast sweep supervisions`. Not verified: the formula or the setting",
        "could not be checked against the authors' text or code.",
        "",
        "## Methods",
        "",
        *table(
            ["method", "head", "loss", "supervision", "equation per sample", "settings", "source", "verified", "test"],
            methods,
        ),
        "",
        "## Supervisions",
        "",
        "Who teaches, with which labels, on which rows, in how many stages ([how](../supervisions/README.md)). What a",
        "supervision logs per stage is in the rows' `stages`.",
        "",
        *table(["supervision", "what it does", "equation", "parameters", "source", "verified", "test"], by_supervision),
        "",
        "## Heads",
        "",
        *table(["head", "equation", "parameters", "source", "verified", "test"], of_heads),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    text = document()
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
            sys.exit(f"{TARGET.relative_to(ROOT)} is out of date: run python .ci/methods_table.py")
    else:
        TARGET.write_text(text, encoding="utf-8")

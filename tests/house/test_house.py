"""The house holds: light imports, quick help, layers, no printing, no second name for the project."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def modules_after(code: str) -> set[str]:
    command = [sys.executable, "-c", f"{code}\nimport sys; print('\\n'.join(sys.modules))"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return {name.partition(".")[0] for name in found.stdout.split()}


def test_train_pulls_in_no_decoder_backbone_or_store() -> None:
    loaded = modules_after("import w2s_fast.train")
    assert "torch" in loaded
    assert not loaded & {"PIL", "timm", "open_clip", "transformers", "zarr", "torchvision", "numcodecs"}


def test_the_package_and_its_listings_import_no_torch() -> None:
    code = "import w2s_fast, w2s_fast.losses as a, w2s_fast.heads as b, w2s_fast.methods; a.names(), b.names()"
    assert not modules_after(code) & {"torch", "PIL", "zarr", "timm", "open_clip"}


def test_reading_a_bank_needs_no_zarr_or_model_library() -> None:
    loaded = modules_after("import w2s_fast.store.bank, w2s_fast.store.refs")
    assert not loaded & {"zarr", "torch", "timm", "open_clip"}


@pytest.mark.parametrize("command", ["--help", "train --help", "extract --help", "cache --help"])
def test_help_is_light(command: str) -> None:
    code = (
        f"import sys\nsys.argv=['w2s-fast']\nfrom w2s_fast_cli.main import run\n"
        f"import contextlib, io\n"
        f"with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): run({command.split()!r})"
    )
    assert not modules_after(code) & {"torch", "numpy", "PIL", "zarr", "timm", "open_clip"}


def test_help_imports_nothing_but_what_prints_it() -> None:
    """What would make `--help` slow to answer, without a clock: every package that it loads."""
    printing = modules_after("import typer, typer.rich_utils, rich.console, rich.table, rich.panel, rich.markdown")
    loaded = modules_after(
        "import contextlib, io, sys; from w2s_fast_cli.main import run; sys.argv = ['w2s-fast', '--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    run()"
    )
    assert loaded - printing - set(sys.stdlib_module_names) <= {"w2s_fast", "w2s_fast_cli", "__main__"}


def test_nothing_but_the_command_line_prints() -> None:
    for path in (ROOT / "w2s_fast").rglob("*.py"):
        calls = [
            node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ]
        assert not [f for f in calls if isinstance(f, ast.Name) and f.id == "print"], path


def test_no_grab_bag_files() -> None:
    names = {path.stem for folder in ("w2s_fast", "cli") for path in (ROOT / folder).rglob("*.py")}
    assert not names & {"utils", "base", "manager", "common", "helpers", "misc"}


def test_tests_have_names_of_their_own() -> None:
    """Without packages pytest takes two files of one name for the same module."""
    files = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(files)) == sorted(files)


def test_no_public_name_is_hidden_by_a_package_of_its_name() -> None:
    """`w2s.NAME` would be the package `w2s_fast.NAME` as soon as something imports that."""
    import w2s_fast

    rooms = {path.name for path in (ROOT / "w2s_fast").iterdir() if path.is_dir()}
    assert not rooms & set(w2s_fast.__all__)

"""What a user is told leads on, and what was asked for is found."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command
from w2s_fast_cli.output import speed

import w2s_fast as w2s
from w2s_fast.backbones import parse_model
from w2s_fast.core.errors import BankMissing, DataError, UsageError
from w2s_fast.data import open_manifest
from w2s_fast.extract.options import ExtractOptions
from w2s_fast.store import files
from w2s_fast.tasks.opening import prepare

SPAWNED = """
import multiprocessing, sys
from w2s_fast.backbones import open_encoder
from w2s_fast.data import open_manifest
from w2s_fast.extract.images import batches

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    encoder = open_encoder(sys.argv[2], random_weights=True)
    manifest = open_manifest("imagefolder:" + sys.argv[3])
    rows = [row for batch in batches(manifest, range(4), [encoder], batch_size=2, workers=1) for row in batch.rows]
    print(rows)
"""


def photographs(folder: Path, *, size: int = 40) -> Path:
    for number in range(4):
        path = folder / f"kind {number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (size, size), (60 * number, 10, 200)).save(path)
    return folder


@pytest.mark.parametrize(
    ("start", "model"),
    [
        ("spawn", "timm:resnet10t#layer3"),
        pytest.param("forkserver", "torchvision:squeezenet1_1", marks=pytest.mark.slow),
        pytest.param("spawn", "open_clip:RN50#visual.layer1", marks=pytest.mark.slow),
        pytest.param("spawn", "drawn:clip", marks=pytest.mark.slow),
    ],
)
def test_images_are_decoded_by_processes_that_were_not_forked(start: str, model: str, tmp_path: Path) -> None:
    """As on macOS, and from Python 3.14 on: what these processes need is sent to them, and the network is not."""
    script = tmp_path / "spawned.py"
    script.write_text(SPAWNED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), start, model, str(photographs(tmp_path / "p"))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
    )
    assert (done.returncode, done.stdout.split("\n")[0]) == (0, "[0, 1, 2, 3]"), done.stderr[-2000:]


@pytest.mark.parametrize("folder", [".ipynb_checkpoints", "__MACOSX", "@eaDir", "lost+found"])
def test_folders_that_programs_leave_behind_are_passed_over(folder: str, tmp_path: Path) -> None:
    for part in ("plain", "official/train", "official/test"):
        photographs(tmp_path / part)
        (tmp_path / part / folder).mkdir()
        (tmp_path / part / "kind 1" / folder).mkdir()
    (tmp_path / "official" / folder).mkdir()
    assert open_manifest(f"imagefolder:{tmp_path / 'plain'}").classes == ("kind 0", "kind 1")
    official = open_manifest(f"imagefolder:{tmp_path / 'official'}")
    assert official.classes == ("kind 0", "kind 1") and set(official.splits) == {"train", "test"}


def test_a_link_that_leads_out_of_a_folder_is_refused_with_a_way_that_is_open(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    outside = photographs(tmp_path / "elsewhere") / "kind 0" / "0.png"
    (folder / "kind 0" / "linked.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"list:FILE --root DIR") as refused:
        open_manifest(f"imagefolder:{folder}")
    assert "set --root" not in str(refused.value)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"photos/kind {n % 2}/{n}.png {n % 2}\n" for n in range(4)), encoding="utf-8")
    assert len(open_manifest(f"list:{listed}", root=tmp_path).ids) == 4


@pytest.mark.parametrize(("label", "said"), [("0", None), (" 1 ", None), ("cat", "'label' is 'cat'"), (1.5, "is 1.5")])
def test_a_label_in_quotes_is_a_label(label: object, said: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for key, value in {"x": label, "y": 0, "z": 1}.items():
            png = io.BytesIO()
            Image.new("RGB", (8, 8), (ord(key), 0, 0)).save(png, "PNG")
            for name, content in (
                (f"{key}.png", png.getvalue()),
                (f"{key}.json", json.dumps({"label": value}).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    if said is None:
        manifest = open_manifest(f"wds:{path}")
        assert manifest.labels[0] == int(str(label))
    else:
        with pytest.raises(DataError, match=said):
            open_manifest(f"wds:{path}")


def test_a_bank_is_opened_by_the_names_that_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    name, options = "imagefolder:p", ExtractOptions(random_weights=True)
    [made, *_] = w2s.extract_all([name], ["timm:test_vit"], options=options)
    bank = w2s.open_bank("timm:test_vit", name, options=options)
    assert bank.key == made["key"] and bank.rows == 4
    assert np.array_equal(w2s.rows_of(bank, bank.ids[::-1]), [3, 2, 1, 0])
    with pytest.raises(BankMissing, match="w2s-fast extract"):
        w2s.open_bank("timm:test_vit", name)


def test_a_cache_that_may_not_be_written_serves_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same images under another path: their bank is there, though no reference can be."""
    photographs(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    cache, options = tmp_path / "cache", ExtractOptions(random_weights=True)
    [made, *_] = w2s.extract_all([f"imagefolder:{tmp_path / 'here'}"], ["timm:test_vit"], options=options, cache=cache)

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for operation in ("write", "rename", "link", "unlink", "mkdir"):
        monkeypatch.setattr(files, operation, refused)
    manifest = open_manifest(f"imagefolder:{tmp_path / 'there'}")
    banks = prepare(manifest, ["timm:test_vit"], data=manifest.name, options=options, cache=cache)
    assert banks["timm:test_vit"].key == made["key"]


def test_a_supervisor_s_bare_name_is_told_how_to_write_it() -> None:
    with pytest.raises(UsageError, match=r"timm:r18, open_clip:\.\.\., or weak:r18 for a supervisor"):
        parse_model("r18")


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        (1234.4, "1,234 images/s"),
        (3.21, "3.2 images/s"),
        (0.4, "24 images/min"),
        (0.004, "14 images/h"),
        (0, "0.0 images/h"),
    ],
)
def test_a_slow_rate_is_not_zero(rate: float, said: str) -> None:
    assert speed(rate, "images") == said


def test_a_terminal_that_lacks_a_character_does_not_end_the_command(tmp_path: Path) -> None:
    rows = tmp_path / "r\u00e9sults.jsonl"
    rows.write_text("", encoding="utf-8")
    command = [str(Path(sys.executable).with_name("w2s-fast")), "report", str(rows)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert "UnicodeEncodeError" not in done.stderr and r"r\xe9sults" in done.stderr


def commands() -> list[tuple[str, ...]]:
    from w2s_fast_cli.main import app

    def below(command: object, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        inner = getattr(command, "commands", {})
        return [found for name, one in inner.items() for found in below(one, (*path, name))] or [path]

    return below(get_command(app), ())


def test_no_word_of_the_help_is_eaten(capsys: pytest.CaptureFixture[str]) -> None:
    """What stands in brackets is not markup."""
    from w2s_fast_cli.main import app

    whole = get_command(app)
    for path in commands():
        command = whole
        for name in path:
            command = command.commands[name]  # type: ignore[attr-defined]
        with pytest.raises(SystemExit):
            whole([*path, "--help"])
        shown = "".join(filter(str.isalnum, capsys.readouterr().out))
        told = (command.help or "").partition("\n\n")[0]
        assert "".join(filter(str.isalnum, told)) in shown, path
        for parameter in command.params:
            words = "".join(filter(str.isalnum, getattr(parameter, "help", None) or ""))
            if not getattr(parameter, "hidden", False):
                assert words in shown, (path, parameter.name)


def test_a_file_from_a_windows_editor_is_toml(tmp_path: Path) -> None:
    from w2s_fast.studies.experiment import Experiment
    from w2s_fast.studies.sweep import read_values

    path = tmp_path / "grid.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b'method = "cpl"\nseeds = "0-4"\ndata = "drawn:sketch"\n')
    assert Experiment.of(read_values(path), where=str(path)).fits.seeds == (0, 1, 2, 3, 4)


def test_the_folder_one_stands_in_is_reported(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("w2s-fast"))
    done = subprocess.run([program, "report", "."], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "defect" not in done.stderr and "results" in done.stderr

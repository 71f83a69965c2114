"""Extraction over images that end the process that decodes them: a failed row each, and every other row as ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_hostile_images import MODEL, OPTIONS, png

from w2s_fast.core.errors import DataError
from w2s_fast.data import decoder, open_manifest
from w2s_fast.data.decode import MAX_BYTES, MEMORY
from w2s_fast.extract.worker import extract
from w2s_fast.store import open_bank

SLOW = pytest.mark.slow
WORSE = """
import os, signal, sys; sys.path[:] = sys.argv[2:]
from w2s_fast.data import decode, decoder_process as module
import PIL.Image
decode.MEMORY = 1 << 60
PIL.Image.MAX_IMAGE_PIXELS = None
real = module.decode
def found_a_hole(content, *, path):
    if content.startswith(b"signal "):
        os.kill(os.getpid(), int(content[7:]))
    return real(content, path=path)
module.decode = found_a_hole
module.main()
"""
"""Pillow without any bound of ours or its own, and with holes that an image can kill it through."""
KILLERS = {
    "segv.png": (b"signal %d" % signal.SIGSEGV, "SIGSEGV"),
    "kill.png": (b"signal %d" % signal.SIGKILL, "SIGKILL"),
    "abort.jpg": (b"signal %d" % signal.SIGABRT, "SIGABRT"),
    "bomb.png": (png(50_000, 50_000), "takes more than 896 MiB"),
    "gray.png": (png(30_000, 30_000, colour=0, depth=16), "takes more than 896 MiB"),
}


def folder(root: Path, killers: bool) -> str:
    """Two classes of sound images; with `killers`, those among them, and else as many that are merely no images."""
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for i in range(9):
            pixels = np.random.default_rng([i, ord(label)]).integers(0, 256, (31, 33, 3), np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    for at, (name, (content, _)) in enumerate(KILLERS.items()):
        (root / "ab"[at % 2] / f"{at * 2} {name}").write_bytes(content if killers else b"none %d" % at)
    return f"imagefolder:{root}"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [pytest.param(0, marks=SLOW), 2])
def test_an_image_that_kills_its_decoder_is_a_failed_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(decoder, "_CODE", WORSE)
    banks = {}
    for killers in (True, False):
        data, cache = folder(tmp_path / str(killers), killers), tmp_path / f"cache {killers}"
        manifest = open_manifest(data, cache=cache)
        chosen = replace(OPTIONS, workers=workers, batch_size=4)
        [record] = extract(manifest, [MODEL], data=data, options=chosen, cache=cache)
        assert (record.rows, record.failures) == (18 + len(KILLERS), len(KILLERS))
        banks[killers] = open_bank(MODEL, data, cache=cache, options=OPTIONS.in_key())
        assert [manifest.uris[f["row"]] for f in banks[killers].failures] == [u for u in manifest.uris if " " in u]
    worse, harmless = banks[True], banks[False]
    reasons = [f["reason"] for f in worse.failures]
    for name, (_, why) in KILLERS.items():
        [said] = [r for r in reasons if name in r]
        assert why in said and len(said) <= 300
    assert np.array_equal(worse.ok, harmless.ok)
    assert np.array_equal(worse.array("features"), harmless.array("features")), "not one row has moved or changed"


def test_a_decoder_that_cannot_start_fails_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_CODE", "raise SystemExit(1)")
    data = folder(tmp_path / "images", killers=False)
    with pytest.raises(DataError, match="ends when it starts"):
        extract(open_manifest(data, cache=tmp_path), [MODEL], data=data, options=OPTIONS, cache=tmp_path)
    assert not list(tmp_path.rglob("commits/*"))


STOPPED = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it runs in the background ignore it
from w2s_fast.backbones import open_encoder
from w2s_fast.data import open_manifest
from w2s_fast.extract.images import batches
manifest = open_manifest(sys.argv[1], cache=Path(sys.argv[2]))
encoder = open_encoder(sys.argv[3], random_weights=True)
rows = [*range(len(manifest.ids))] * 10_000  # one pass: in a loader's own destructor Python would drop the signal
try:
    for batch in batches(manifest, rows, [encoder], batch_size=4, workers=int(sys.argv[4])):
        print(len(batch.reasons), flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


def members(session: int) -> list[int]:
    """Processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(after[3]) == session and after[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("workers", "how"),
    [pytest.param(0, signal.SIGINT, marks=SLOW), (1, signal.SIGINT), pytest.param(1, signal.SIGKILL, marks=SLOW)],
)
def test_nothing_is_left_running(tmp_path: Path, workers: int, how: signal.Signals) -> None:
    """After Ctrl-C, which the whole group is told of, and after the main process is killed without a word."""
    data = folder(tmp_path / "images", killers=False)
    argv = [sys.executable, "-W", "ignore", "-c", STOPPED, data, str(tmp_path), MODEL, str(workers)]
    main = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert main.stdout is not None and main.stderr is not None
    try:
        for _ in range(3):
            main.stdout.readline()
        assert len(members(main.pid)) == 2 + workers, "the main process, its loaders, and a decoder of one of them"
        os.killpg(main.pid, how) if how == signal.SIGINT else main.kill()
        said, errors = main.communicate(timeout=60)
    finally:
        if main.poll() is None:
            os.killpg(main.pid, signal.SIGKILL)
            main.communicate()
    if how == signal.SIGINT:
        assert main.returncode == 0 and said.endswith("stopped\n") and not errors
    deadline = time.monotonic() + 20
    while members(main.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not members(main.pid)


BOUND = """
import json, resource, sys
from pathlib import Path
from w2s_fast.core.errors import Unreadable
from w2s_fast.data.decoder import Decoder
one = Decoder()
for name in sys.argv[1:]:
    print(json.dumps(str(one.decode(Path(name).read_bytes(), path=name).size)), flush=True)
one.close()
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10))
"""


@pytest.mark.slow
def test_the_largest_allowed_images_fit_into_the_limit(tmp_path: Path) -> None:
    """What `decode` lets through, the limit lets through, and the process stays below 1 GB all the while."""
    kinds = (
        ("rgb.png", "RGB", 10_000, {"compress_level": 1}),
        ("gray.png", "I;16", 10_000, {"compress_level": 1, "transparency": 5}),
        ("many.jpg", "CMYK", 8_190, {"progressive": True}),
        ("full.jpg", "RGB", 8_190, {"progressive": True, "subsampling": 0}),
        ("lossless.webp", "RGBA", 7_090, {"lossless": True, "method": 0}),
    )
    for name, mode, side, options in kinds:
        Image.new(mode, (side, side)).save(tmp_path / name, **options)
    names = [str(tmp_path / name) for name, *_ in kinds]
    done = subprocess.run([sys.executable, "-c", BOUND, *names], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    *sizes, peak = map(json.loads, done.stdout.splitlines())
    assert sizes == [str((side, side)) for _, _, side, _ in kinds]
    assert peak < 10**9 and MEMORY + MAX_BYTES < 10**9

"""Nothing is unpickled: neither in the source, nor at run time on weights, banks and supervisors that are pickles."""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from hostile_bank import make_bank, part_of, refile

import w2s_fast

PACKAGE = Path(w2s_fast.__file__).parent
SOURCES = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "cli" / "w2s_fast_cli").rglob("*.py")]
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
ARGUMENTS = {"allow_pickle": False, "trust_remote_code": False, "weights_only": True}


def test_the_source_neither_unpickles_nor_trusts() -> None:
    """Every call of a loader that could unpickle says that it may not; what runs data is never called."""
    assert len(SOURCES) > 100
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name.partition(".")[0] for a in node.names} | {
                    str(getattr(node, "module", "")).partition(".")[0]
                }
                assert not names & FORBIDDEN_MODULES, where
            if not isinstance(node, ast.Call):
                continue
            given = {k.arg: k.value for k in node.keywords}
            for name, value in ARGUMENTS.items():
                if name in given:
                    found = given[name]
                    assert isinstance(found, ast.Constant) and found.value is value, where
            called = ast.unparse(node.func)
            if called in ("torch.load", "open_clip.load_checkpoint", "torch.hub.load_state_dict_from_url"):
                assert "weights_only" in given, where
            if called in ("np.load", "numpy.load", "np.save", "numpy.save"):
                assert "allow_pickle" in given, where
            assert called not in ("eval", "exec", "torch.jit.load", "torch.hub.load", "os.system", "yaml.load"), where


class Bomb:
    """What a pickle runs when it is read: it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def bombs(folder: Path, mark: Path) -> dict[str, Path]:
    """Pickles in every disguise that some loader opens."""
    folder.mkdir(parents=True)
    state = {"conv1.weight": torch.zeros(1), "x": Bomb(mark)}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    modern = buffer.getvalue()
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, x=np.array([Bomb(mark)], dtype=object))
    script = io.BytesIO()
    with zipfile.ZipFile(script, "w") as zipped:
        zipped.writestr("a/data.pkl", pickle.dumps(Bomb(mark)))
        zipped.writestr("a/constants.pkl", pickle.dumps(Bomb(mark)))
        zipped.writestr("a/version", "3\n")
    contents = {
        "plain.pt": pickle.dumps(Bomb(mark)),
        "protocol0.bin": pickle.dumps(Bomb(mark), protocol=0),
        "zip.pth": modern,
        "legacy.pth": buffer.getvalue(),
        "script.pt": script.getvalue(),
        "named.safetensors": modern,
        "objects.npy": objects.getvalue(),
        "objects.npz": archive.getvalue(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


GUARD = """
import os, sys
def guard(event, args):
    if event in ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        os.close(os.open(os.environ["FORBIDDEN"], os.O_CREAT))
        os._exit(99)
sys.addaudithook(guard)
"""
"""For the processes that decode images: whatever one of these would run leaves the mark."""
AUDITED = """
import json, os, subprocess, sys, traceback
seen, decoding, armed = [], [], False
def hook(event, args):
    if not armed:
        return
    if event == "pickle.find_class":
        seen.append((event, [str(a) for a in args]))
    elif event == "subprocess.Popen" and list(args[1])[1:4] == ["-I", "-c", decoder._CODE]:
        decoding.append(args[0])  # and GUARD listens in it
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "marshal.loads"):
        if event != "marshal.loads" or "importlib" not in "".join(traceback.format_stack()):
            seen.append((event, [str(a)[:80] for a in args]))
    elif event == "open" and str(args[0]).startswith(os.environ["FORBIDDEN"]) and "w" in str(args[1]):
        seen.append((event, [str(args[0])]))
sys.addaudithook(hook)
import torch, timm, torchvision, open_clip, zarr, safetensors.torch
from w2s_fast.data import decoder
from w2s_fast_cli.main import run
control = "import json, pickle; pickle.loads(pickle.dumps(json.JSONDecoder))"
assert subprocess.run([sys.executable, "-c", os.environ["GUARD"] + control]).returncode == 99
os.unlink(os.environ["FORBIDDEN"])
decoder._CODE = os.environ["GUARD"] + decoder._CODE
armed = True
import pickle
pickle.loads(pickle.dumps(json.JSONDecoder))  # the control: the hook sees what it is there to see
assert [event for event, _ in seen] == ["pickle.find_class"], seen
seen.clear()
for line in sys.stdin:
    argv = json.loads(line)
    status = 0
    try:
        run(argv)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        status = -1
    sys.stderr.flush()
    print("##", json.dumps([argv, status, seen, len(decoding)]), flush=True)
    seen.clear(), decoding.clear()
"""


def audited(commands: list[list[str]], mark: Path) -> tuple[list[tuple[list[str], int, list, int]], str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", AUDITED],
        input="\n".join(map(json.dumps, commands)),
        capture_output=True,
        text=True,
        timeout=280,
        env={**__import__("os").environ, "FORBIDDEN": str(mark), "GUARD": GUARD},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line[3:]) for line in done.stdout.splitlines() if line.startswith("## ")]
    assert len(found) == len(commands), done.stderr[-3000:]
    return [tuple(f) for f in found], done.stderr


def hostile_commands(tmp: Path, mark: Path) -> list[list[str]]:
    files, images = bombs(tmp / "bombs", mark), tmp / "images"
    for label in ("a", "b"):
        (images / label).mkdir(parents=True)
        for name, path in files.items():
            shutil.copy(path, images / label / f"{label}{name}.png")
    data, at = f"imagefolder:{images}", ["--cache", str(tmp / "cache"), "--device", "cpu"]
    models = [f"timm:test_resnet.r160_in1k/@{path}" for path in files.values()]
    models += [f"{arch}@{files[name]}" for arch, name in (("torchvision:resnet18/IMAGENET1K_V1", "legacy.pth"),
               ("open_clip:RN50/openai", "zip.pth"), ("open_clip:RN50/openai", "objects.npz"))]  # fmt: skip
    for kind, config in (
        ("open_clip", {"model_cfg": {"embed_dim": 8}, "preprocess_cfg": {"mean": [0.5], "std": [0.5]}}),
        ("config", {"architecture": "test_resnet", "mean": [0.5], "std": [0.5]}),
    ):
        folder = tmp / f"local-{kind}"
        folder.mkdir()
        (folder / ("open_clip_config.json" if kind == "open_clip" else "config.json")).write_text(json.dumps(config))
        shutil.copy(files["zip.pth"], folder / "pytorch_model.bin")
        models.append(f"local:{folder}")
    out = [["extract", "--data", "drawn:sketch", "--model", m, *at] for m in models]
    out += [["extract", "--data", data, "--model", "drawn:clip", "--workers", "0", *at]]
    supervisor = tmp / "cache" / "weak" / "x" / "drawn-sketch" / "seed-0"
    supervisor.mkdir(parents=True)
    card = {"arch": "drawn:cnn", "classes": ["a", "b"], "data": "drawn:sketch", "seed": 0, "recipe": {}, "command": "c",
            "preprocess": {}, "acc": 1, "format": 1, "d_train_digest": "0" * 64, "sha256": "0" * 64}  # fmt: skip
    (supervisor / "card.json").write_text(json.dumps(card))
    shutil.copy(files["zip.pth"], supervisor / "model.safetensors")
    shutil.copy(files["objects.npy"], supervisor / "d_train.npy")
    out += [["train", "--data", "drawn:sketch", "--weak", "weak:x", "--loss", "cpl", "--seeds", "1", *at]]
    bank = make_bank(tmp / "cache")
    refile(bank, "features/zarr.json", files["plain.pt"].read_bytes())
    (part_of(bank) / "features/c/0/0").write_bytes(files["plain.pt"].read_bytes())
    at = at[:2]
    return [*out, ["cache", "ls", *at], ["cache", "verify", "--deep", *at], ["cache", "info", bank.name, *at]]


def test_hostile_weights_banks_and_supervisors_run_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    commands = hostile_commands(tmp_path / "x", mark)
    found, said = audited(commands, mark)
    assert sum(decoders for *_, decoders in found) >= 1, "the images were decoded where GUARD listens"
    for argv, status, seen, _ in found:
        assert seen == [], (argv, seen)
        assert status == (0 if argv[:2] == ["cache", "ls"] else 1), (argv, status, said[-1500:])
    assert not mark.exists() and "Traceback" not in said and "defect" not in said, said[-3000:]


def test_each_bomb_goes_off_in_the_hands_of_whoever_trusts_it(tmp_path: Path) -> None:
    """The control: otherwise that nothing ran would prove nothing."""
    for name, path in bombs(tmp_path / "bombs", tmp_path / "mark").items():
        if name in ("script.pt", "named.safetensors"):  # one needs a whole script, the other is refused by its name
            continue
        if path.suffix in (".npy", ".npz"):
            loaded = np.load(path, allow_pickle=True)
            _ = loaded["x"] if path.suffix == ".npz" else loaded
        elif name in ("plain.pt", "protocol0.bin"):
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
        assert (tmp_path / "mark").exists(), name
        (tmp_path / "mark").unlink()

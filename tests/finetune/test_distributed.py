"""Two gloo processes equal one process of the same global batch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {worlds!r})
import pytest
import torch
torch.set_num_threads(1)
from dataclasses import replace
from safetensors.torch import save_file
from finetune_worlds import SHORT, judge, pictures, small, views
from w2s_fast.finetune.distributed import join
from w2s_fast.finetune.fit import fit_network
from w2s_fast.finetune.teachers import LiveTeacher

world = join()
pixels, labels = pictures(48)
model = small()
model.drop.p = 0.0
training = replace(SHORT, loss="adapt_conf", lr=0.01, epochs=2)
fit = fit_network(model, views(pixels), labels, training=training, seed=0, k=3, world=world,
                  teacher=LiveTeacher(module=small(9)), evaluate=judge(pixels, labels))
if world.first:
    state = {{k: v.contiguous() for k, v in model.state_dict().items()}}
    state["loss"] = torch.from_numpy(fit.curves["loss"][1:].copy())
    state["accuracy"] = torch.from_numpy(fit.curves["accuracy"][1:].copy())
    save_file(state, {out!r})
"""


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    worlds = str(Path(__file__).parent.parent / "worlds")
    files = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for size, file in enumerate(files, start=1):
        script = tmp_path / f"{size}.py"
        script.write_text(SCRIPT.format(worlds=worlds, out=str(file)))
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"] if size > 1 else []
        subprocess.run([sys.executable, *launch, str(script)], check=True, timeout=200, capture_output=True)
    one, two = map(load_file, files)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")

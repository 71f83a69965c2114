"""Results for the page: thousands of plausible rows, and hostile texts in every place that a text can come from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from w2s_fast.core.rows import Row
from w2s_fast.data.manifest import Manifest
from w2s_fast.diagnose.subject import Said, Subject

RUN = "document.documentElement.dataset.executed="
HOSTILE = (
    f"</script><script>{RUN}1</script>",
    f'<img src=x onerror="{RUN}2">',
    f'"><svg onload={RUN}3>',
    f"' onmouseover='{RUN}4",
    "<!--<script>",
    f"]]></script><script>{RUN}5</script>",
    f"javascript:{RUN}6",
    f"</style><script>{RUN}7</script>",
    f"</title><script>{RUN}8</script>",
    "\u2028\u2029 line",
    "\u202egpj.exe\u202c &amp; &lt;b&gt;",
    '=HYPERLINK("http://x","y")',
    f"${{{RUN}9}}{{{{constructor.constructor('{RUN}10')()}}}}",
)


def rows(count: int, *, hostile: bool = False, seed: int = 0) -> list[Row]:
    """`count` rows of four methods on five domains; hostile: every text of every row is one."""
    rng = random.Random(seed)
    out: list[Row] = []
    for i in range(count):
        bad = HOSTILE[i % len(HOSTILE)] if hostile else ""
        row: dict[str, Any] = {
            "schema": 1,
            "run_id": f"{i // 4:016x}",
            "question": f"{i % 4:016x}",
            "status": "ok",
            "data": f"drawn:{bad or i % 5}",
            "domain": bad or f"domain {i % 5}",
            "weak": bad or "drawn:cnn",
            "strong": "drawn:clip",
            "method": bad or ("cpl", "kd+lp", "ce+lp", "aux+lp")[i // 20 % 4],
            "head": bad or "linear",
            "loss": bad or "kd",
            "supervision": bad or "weak",
            "seed": i // 5 % 20,
            "weak_seed": i // 5 % 20,
            "selection": "last",
            "acc_weak": round(rng.random(), 5),
            "acc_w2s": round(rng.random(), 5),
            "acc_ceiling": round(0.9 + rng.random() / 20, 5),
            "pgr": round(rng.gauss(0.5, 0.3), 5),
            "agreement": round(rng.random(), 5),
            "lr": rng.choice([0.003, 0.01]),
            "tau_s": rng.choice([0.5, 1, 2]),
            "epochs": 20,
            "seconds": round(rng.random(), 3),
            "preds": f"{bad}.npy#{i}" if bad else None,
            "note": bad or None,
            "code": bad or "w2s_fast 0",
        }
        out.append(row)  # type: ignore[arg-type]
    return out


def hostile_task(folder: Any) -> tuple[Manifest, Subject]:
    """A task whose classes, ids and paths are hostile, with one real picture that all its rows share."""
    from PIL import Image

    Image.new("RGB", (40, 40), (200, 80, 20)).save(folder / "a.png")
    n, k = 3 * len(HOSTILE), len(HOSTILE)
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % k
    x = torch.randn(n, 6, generator=g)
    manifest = Manifest(
        name=HOSTILE[0],
        root=folder,
        classes=tuple(c.replace("\u2028", "").replace("\u2029", "").strip() for c in HOSTILE),
        labels=labels.numpy(),
        ids=tuple(f"{i:032x}" for i in range(n)),
        uris=("a.png",) * n,
        splits=("test",) * n,
        groups=("",) * n,
    )
    subject = Subject(
        features=x,
        classes=manifest.classes,
        ids=manifest.ids,
        weak={HOSTILE[1]: torch.randn(n, k, generator=g)},
        labels=labels,
        students={HOSTILE[2]: Said(rows=np.arange(n), labels=torch.randint(k, (n,), generator=g))},
    )
    return manifest, subject

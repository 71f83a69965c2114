"""Nearest neighbours: exact torch against faiss Flat, IVF and HNSW in one run; seconds, recall, and what `auto` takes.

    python benchmarks/knn.py [--rows 100000] [--width 512] [--queries 1000] [--k 10] [--threads 1] [--kinds exact flat]

Rows are clusters with noise, queries noisy rows. Every index answers the same queries; recall is over all of them.
"""

from __future__ import annotations

import argparse
import json
import platform

import faiss
import torch

from w2s_fast.diagnose.indexes import KINDS, estimated, search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 100_000), ("width", 512), ("queries", 1000), ("k", 10), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--kinds", nargs="+", default=[kind for kind in KINDS if kind != "gpu"])
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    g = torch.Generator().manual_seed(0)
    centres = torch.randn(asked.rows // 100 or 1, asked.width, generator=g)
    x = centres[torch.randint(len(centres), (asked.rows,), generator=g)]
    x += 0.7 * torch.randn(x.shape, generator=g)
    queries = x[torch.randint(len(x), (asked.queries,), generator=g)]
    queries = queries + 0.1 * torch.randn(queries.shape, generator=g)
    about = {"rows": asked.rows, "width": asked.width, "queries": asked.queries, "k": asked.k, "threads": asked.threads}
    versions = {"torch": torch.__version__, "faiss": faiss.__version__, "machine": platform.processor() or "unknown"}
    print(json.dumps({**about, **versions}))
    search(x[:2000], queries[:50], k=asked.k)  # starts the libraries' threads
    exact = None
    for kind in asked.kinds:
        found = search(x, queries, k=asked.k, index=kind)
        exact = found.ids if kind == "exact" else exact
        line = {"index": kind, **{f"{name}_s": round(seconds, 3) for name, seconds in found.seconds.items()}}
        if exact is not None:
            pairs = zip(found.ids.tolist(), exact.tolist(), strict=True)
            line["recall"] = round(sum(len(set(a) & set(b)) for a, b in pairs) / exact.numel(), 4)
        print(json.dumps(line))
    expected = estimated(x, q=asked.queries, k=asked.k, probes=16, ef=64)
    print(json.dumps({"auto": min(expected, key=lambda kind: expected[kind]),
                      "expected_s": {kind: round(seconds, 3) for kind, seconds in expected.items()}}))  # fmt: skip


if __name__ == "__main__":
    main()

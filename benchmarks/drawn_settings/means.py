"""Mean accuracy per method and learning rate over the drawn domains, from `w2s-fast train --out FILE`'s rows.

    python benchmarks/drawn_settings/means.py settings.jsonl

Expected: the table in README.md beside this file.
"""

import sys
from collections import defaultdict

from w2s_fast.core.rows import read


def main(path: str) -> None:
    found: dict[tuple[str, float], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read(path):
        if row["selection"] == "last" and row["acc_w2s"] is not None:
            method = row["method"].partition("[")[0]
            found[method, row["lr"]][row["domain"]].append(100 * row["acc_w2s"])
    domains = sorted({domain for of in found.values() for domain in of})
    print(f"| method | lr | {' | '.join(domains)} | mean |\n|{' --- |' * (len(domains) + 3)}")
    for (method, lr), of in sorted(found.items()):
        means = [sum(of[d]) / len(of[d]) for d in domains]
        print(f"| {method} | {lr:g} | {' | '.join(f'{m:.1f}' for m in means)} | {sum(means) / len(means):.2f} |")


if __name__ == "__main__":
    main(sys.argv[1])

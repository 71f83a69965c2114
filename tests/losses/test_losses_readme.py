"""The table in w2s_fast/losses/README.md is what the code says; run as a program, this file writes it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from w2s_fast import losses

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "w2s_fast" / "losses" / "README.md"
TESTS = {
    "ce": "test_cross_entropies_and_kl",
    "ce_hard": "test_ce_hard_is_ce",
    "ce_soft": "test_cross_entropies_and_kl",
    "kd": "test_kd_with_temperature",
    "cpl": "test_cpl_is_kd",
    "aux_conf": "test_logconf_of_two_classes",
    "aux_conf_argmax": "test_aux_conf_argmax_value",
    "adapt_conf": "test_adapt_conf_values",
    "logconf_eleuther": "test_logconf_of_eleuther_by_hand",
    "entropy_reg": "test_entropy_by_hand",
    "window": "test_window_of_two_classes",
    "product": "test_product_of_openai",
    "prior_product": "test_products_by_hand",
    "prior_anchor": "test_products_by_hand",
    "reverse_kl": "test_kd_and_reverse_kl_vanish_only_where_distributions_agree",
    "reverse_ce": "test_divergences_by_hand",
    "js": "test_divergences_by_hand",
    "jeffreys": "test_divergences_by_hand",
    "hellinger": "test_divergences_by_hand",
    "tv": "test_divergences_by_hand",
    "chi2": "test_divergences_by_hand",
    "gce": "test_gce_tends_to_cross_entropy",
    "sce": "test_sce_by_the_number_of_classes",
    "edl": "test_evidence_by_hand",
    "raven": "test_raven_by_hand",
    "dkd": "test_dkd",
    "brier": "test_brier",
}
"""The test that holds a loss to its published or hand-computed numbers."""


def table() -> str:
    """The rows that `w2s-fast losses --json` would give, in markdown."""
    lines = ["| loss | value of a sample | source | needs | test |", "| :-- | :-- | :-- | :-- | :-- |"]
    for r in losses.describe():
        own = {n: v for n, v in r["parameters"].items() if n not in ("tau_s", "tau_w")}
        spec = ", ".join(f"{n}={v!r}" for n, v in own.items())
        name = f"`{r['name']}({spec})`" if spec else f"`{r['name']}`"
        doubt = "" if r["verified"] else " (not verified)"
        equation = r["equation"].replace("|", "\\|")
        cells = (name, equation, r["source"] + doubt, ", ".join(r["needs"]), f"`{TESTS[r['name']]}`")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def written() -> tuple[str, str, str]:
    """README before, in and after the table."""
    text = README.read_text(encoding="utf-8")
    start = text.index("| loss |")
    stop = text.index("\n\n", start)
    return text[:start], text[start:stop], text[stop:]


def test_the_table_is_what_the_code_says():
    assert written()[1] == table(), "run: python tests/losses/test_losses_readme.py"


def test_every_test_that_it_names_exists():
    here = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    assert set(TESTS) == set(losses.names())
    assert all(re.search(rf"^def {name}\(", here, flags=re.MULTILINE) for name in TESTS.values())


if __name__ == "__main__":
    before, _, after = written()
    README.write_text(before + table() + after, encoding="utf-8")
    sys.exit(0)

"""Plausible slips in scoring, part writing and supervisions, each made in a copy of the package: tests turn red.

Every line here once passed a whole suite, or could have. A slip that survives is a hole in the tests beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIELDS = "tests/silent/test_row_fields.py"
PARTIAL = "tests/silent/test_partial.py"
UNLIKE = "tests/silent/test_unlike_runs.py"
LOST = "tests/silent/test_lost_work.py"
DIGESTS = "tests/core/test_code_digest.py"
ROWS = "tests/core/test_rows.py"
TEACHERS = "tests/supervisions/test_ensemble.py"
BOOTSTRAP = "tests/supervisions/test_bootstrap.py"
RAVEN = "tests/losses/test_raven.py"
MEASURES, SCORING = "w2s_fast/results/measures.py", "w2s_fast/results/scoring.py"
OUTCOME, PREDICTIONS = "w2s_fast/results/outcome.py", "w2s_fast/results/predictions.py"
DOMAIN, SYSTEMS = "w2s_fast/results/summary/domain.py", "w2s_fast/results/summary/systems.py"
SLIPS: dict[str, tuple[str, str, str, str]] = {
    "best ceiling by the test": (
        MEASURES,
        'c.at_selection(read, "acc_val")',
        'c.at_selection(read, "acc_test")',
        FIELDS,
    ),
    "best ceiling by agreement": (MEASURES, 'c.at_selection(read, "acc_val")', 'c.at_selection(read, "loss")', FIELDS),
    "worst ceiling": (MEASURES, "best = max(whole", "best = min(whole", FIELDS),
    "ceiling of any seed": (MEASURES, "if c.seed == one.seed]", "if c.seed >= 0]", FIELDS),
    "ceiling of any head": (MEASURES, "if c.ceiling_key == one.ceiling_key)", "if c.ceiling_key)", FIELDS),
    "best of what ended": (MEASURES, "if len(whole) < len(keys):", "if False:", PARTIAL),
    "the worse base": (MEASURES, "np.mean(prior) > np.mean(weak)", "np.mean(prior) < np.mean(weak)", FIELDS),
    "base of one student": (
        MEASURES,
        "for s, _, _ in students]\n        return",
        "for s, _, _ in students[:1]]\n        return",
        FIELDS,
    ),
    "pgr_zs from weak": (SCORING, "_pgr(base, correct, ceiling)", "_pgr(weak_right, correct, ceiling)", FIELDS),
    "pgr_best by the same head": (
        SCORING,
        "_pgr(weak_right, correct, best)",
        "_pgr(weak_right, correct, ceiling)",
        FIELDS,
    ),
    "agreement among the wrong": (SCORING, "_mean_where(same, ~weak_right)", "_mean_where(same, weak_right)", FIELDS),
    "gap without its noise": (SCORING, "gap_se=gap_se", "gap_se=0.0", FIELDS),
    "pool without hold-val": (SCORING, "rows = one.split.pool", "rows = one.split.train", FIELDS),
    "a seed is no matter": (OUTCOME, "self.question.digest, self.seed,", "self.question.digest, 0,", UNLIKE),
    "code is no matter": ("w2s_fast/methods/outcomes.py", "code_digest(method.loss)", "method.loss_name", UNLIKE),
    "ground truth is no matter": ("w2s_fast/methods/outcomes.py", '"w_gt": settings.w_gt', '"w_gt": 0', UNLIKE),
    "names are roles": (DOMAIN, "return role == CEILING if role else", "return False or", UNLIKE),
    "questions are names": (DOMAIN, 'question = row.get("question") or asked.get(settings)', "question = None", UNLIKE),
    "a missing file is all": (SYSTEMS, "if name is None or answers is None or own not in accuracy:", "if False:", LOST),
    "a pointer is cut at its first #": (PREDICTIONS, 'pointer.rpartition("#")', 'pointer.partition("#")', LOST),
    "files are written in place": (PREDICTIONS, 'path.with_name(f".{path.name}.{os.getpid()}")', "path", LOST),
    "a domain is a path": (PREDICTIONS, "c.isascii() and (c.isalnum()", "c.isascii() and (c.isprintable()", LOST),
    "helpers are no code": (
        "w2s_fast/core/code_digest.py",
        "named = {name: _told(value, seen)",
        "named = {name: 0",
        DIGESTS,
    ),
    "inner functions are no code": (
        "w2s_fast/core/code_digest.py",
        "return _code(value, seen, ())",
        'return "code"',
        DIGESTS,
    ),
    "unknown keys are shown": (
        "w2s_fast/core/rows.py",
        "made_by_truth.get(key) is False",
        "not made_by_truth.get(key)",
        ROWS,
    ),
    "rows before their ceilings": ("w2s_fast/methods/fit.py", "one.seed not in open_seeds", "one.seed >= 0", PARTIAL),
    "rows told twice": ("w2s_fast/methods/fit.py", "self._told.update(new)", "pass", PARTIAL),
    "entropy's guard": ("w2s_fast/supervisions/ensemble.py", ".sum(-1) + 1e-8)", ".sum(-1) + 1e-3)", TEACHERS),
    "no weights in the mixture": (
        "w2s_fast/supervisions/ensemble.py",
        "v = v / v.sum(dim=1, keepdim=True)",
        "pass",
        TEACHERS,
    ),
}


def red(folder: Path, file: str, before: str, after: str, test: str) -> bool:
    """Whether the test fails in a copy of the package with the slip."""
    for name in ("w2s_fast", "cli", "tests", "data_manifests"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert text.count(before) >= 1, f"{file} has no {before!r} any more; rewrite the slip"
    (folder / file).write_text(text.replace(before, after, 1), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder / 'cli'}", "OMP_NUM_THREADS": "1"}
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    run = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 1), run.stdout[-2000:] + run.stderr[-2000:]
    return run.returncode == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("slip", SLIPS.values(), ids=SLIPS)
def test_a_slip_turns_a_test_red(slip: tuple[str, str, str, str], tmp_path: Path) -> None:
    assert red(tmp_path, *slip), "it survives"


def test_every_slip_can_be_made() -> None:
    """The lines are still there, so that the slow test above makes what it says."""
    for name, (file, before, after, test) in SLIPS.items():
        assert before in (ROOT / file).read_text(encoding="utf-8") and before != after, name
        assert (ROOT / test).is_file(), test

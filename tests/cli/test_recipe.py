"""`recipe` and the two ways to judge results, on the command line: listing, errors, tables, JSON, Ctrl-C."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2s_fast.results.results import Results
from w2s_fast.studies import study
from w2s_fast.tasks.task import Task

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Studies open a small task with text under the names that were asked for; the data sets opened so far."""
    opened: list[str] = []

    def open_small(data: str, *, strong: str, weak: str, **_: Any) -> Task:
        rng = np.random.default_rng(len(data))
        labels = np.arange(150) % 3
        x, z = (np.eye(3)[labels] + 0.7 * rng.normal(size=(150, 3)) for _ in range(2))
        task = Task.from_arrays(features=x, weak_logits=z, labels=labels, text=np.eye(3), name=data.partition(":")[2])
        opened.append(data)
        return replace(task, data=data, strong=strong, weak=weak)

    monkeypatch.setattr(study, "open_task", open_small)
    return opened


RUN = ("recipe", "run", "cpl_table1", "--scale", "drawn", "--seeds", "2")


def table(markdown: str) -> dict[str, list[str]]:
    """Line name -> cells of the first Markdown table."""
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if line.startswith("|")]
    return {line[0].strip().replace("\\", ""): [cell.strip() for cell in line[1:]] for line in lines}


def test_listing_and_showing(said: Said) -> None:
    code, out, _ = said("recipe", "ls", "--json")
    found = {record["recipe"]: record for record in json.loads(out)}
    assert code == 0 and found["cpl_table1"]["scales"] == ["full", "drawn"] and found["cpl_table1"]["numbers"] > 20
    code, out, _ = said("recipe", "ls")
    assert code == 0 and "cpl_figure2" in out
    code, out, _ = said("recipe", "show", "cpl_table6")
    assert code == 0 and out.startswith("# CPL, Table 6") and "75.36" in out and "{root}/officehome" in out
    code, out, _ = said("recipe", "show", "cpl_table6", "--json")
    assert json.loads(out)["paper"]["accuracy"]["cpl"][-1] == 75.36


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["cpl_tabel1"], 2, "did you mean 'cpl_table1'"),
        (["cpl_table1"], 2, "--data-root DIR for the real data (DomainNet, cleaned version: DIR/domainnet"),
        (["cpl_table1"], 2, "or --scale drawn for the miniature"),
        (["cpl_table1", "--scale", "full"], 2, "cpl_table1 runs on real data: give --data-root DIR"),
        (["cpl_table1", "--scale", "drwan"], 2, "no scale 'drwan'; did you mean 'drawn'"),
        (["cpl_table1", "--scale", "drawn", "--data-root", "."], 2, "give it, or --data-root, not both"),
        (["cpl_table1", "--data-root", "nowhere"], 1, "nowhere: there is no such folder; cpl_table1 wants DomainNet"),
        (["cpl_table1", "--data-root", "."], 1, "clipart: domainnet/clipart_train.txt is not there"),
        (["cpl_table1", "--scale", "drawn", "--only", "clip"], 2, "no column 'clip' at scale drawn"),
        (["cpl_table1", "--scale", "drawn", "--format", "latex"], 2, "unknown format 'latex'"),
        (["cpl_table1", "--scale", "drawn", "--seeds", "0"], 2, "names no seed"),
        (["cpl_table1", "--scale", "drawn", "--selection", "best"], 2, "unknown selection 'best'"),
    ],
)
def test_wrong_usage_is_one_sentence_before_anything_runs(
    said: Said,
    small: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = said("recipe", "run", *argv)
    assert (code, out) == (status, "") and words in err and err.count("\n") == 1
    assert small == [] and not (tmp_path / "w2s_runs").exists()


def test_a_run_prints_ours_beside_the_paper_s_and_keeps_rows_that_report_reads(said: Said, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    code, shown, err = said(*RUN, "--only", "clipart", "--only", "real", "--out", out, "--format", "md", "-q")
    assert code == 0, err
    found = table(shown)
    assert found["system"] == ["clipart", "paper", "real", "paper"]
    rows = [r for r in Results.load(out).rows if r["selection"] == "weak_val"]  # as the paper selects
    for method, printed in {"cpl": ("73.10", "85.41"), "kd+lp": ("70.69", "83.66"), "aux+lp": ("n/a", "n/a")}.items():
        for n, domain in enumerate(("clipart", "real")):
            values = [r["acc_w2s"] for r in rows if r["method"] == method and r["domain"] == domain]
            assert len(values) == 2
            ours = found[method][2 * n]
            assert ours.split(" ±")[0] == f"{100 * np.mean(values):.1f}" and float(ours.split(" ±")[1]) > 0
            assert found[method][2 * n + 1] == printed[n]
    assert found["weak"][1] == "67.15" and found["zero-shot"][1] == "n/a" and "kd+tp" not in found
    code, again, _ = said("report", out, "--against", "recipe:cpl_table1", "--format", "md")
    assert code == 0
    compared = table(again)
    assert compared["cpl"][:2] == found["cpl"][:2] and len(compared["cpl"]) == 14
    assert compared["cpl"][-2:] == ["n/a", "64.74"] and compared["kd+tp"] == ["n/a"] * 13 + ["60.82"]
    code, plain, _ = said("report", out)
    assert code == 0 and "cpl" in plain and "ceiling+lp" in plain


def test_json_is_the_rows_and_csv_is_tidy(said: Said, tmp_path: Path) -> None:
    out = tmp_path / "r.jsonl"
    code, shown, _ = said(*RUN, "--only", "clipart", "--out", out, "--json", "-q")
    assert code == 0 and shown == out.read_text()
    code, shown, _ = said("report", out, "--against", "recipe:cpl_table1", "--format", "csv")
    records = list(csv.DictReader(io.StringIO(shown)))
    cpl = next(r for r in records if (r["domain"], r["system"]) == ("clipart", "cpl"))
    assert code == 0 and float(cpl["paper_accuracy"]) == pytest.approx(0.731) and float(cpl["accuracy_low"]) < 1
    code, shown, _ = said("report", out, "--against", "recipe:cpl_table1", "--json")
    assert {r["domain"] for r in map(json.loads, shown.splitlines())} >= {"clipart", "average"}


LADDER = """
title = "Ladder"
source = "me"
columns = "strong"
lines = "weak"
show = ["pgr", "accuracy"]
[drawn]
method = ["ce+lp", "kd+lp"]
data = "drawn:clipart"
[drawn.weak]
one = "drawn:cnn/1"
all = "drawn:cnn"
[drawn.strong]
CNN = "drawn:cnn/0"
CLIP = "drawn:clip"
"""


def test_a_matrix_has_a_table_per_method_and_a_recipe_may_be_one_s_own(said: Said, tmp_path: Path) -> None:
    out, file = tmp_path / "r.jsonl", tmp_path / "ladder.toml"
    file.write_text(LADDER)
    argv = ("recipe", "run", file, "--scale", "drawn", "--seeds", "2", "--out", out, "-q", "--format", "md")
    code, shown, err = said(*argv)
    assert code == 0, err
    titles = [line for line in shown.splitlines() if line.startswith("# ")]
    assert len(titles) == 5 and "PGR, weak model x strong encoder, ce+lp" in titles[0] and "best ceiling" in titles[-1]
    found = table(shown.partition("best ceiling")[0].partition("accuracy %")[2].partition("kd+lp")[0])
    assert found["system"] == ["weak alone", "CNN", "CLIP"]
    rows = [r for r in Results.load(out).rows if (r["selection"], r["method"]) == ("last", "ce+lp")]
    for label, weak in (("one", "drawn:cnn/1"), ("all", "drawn:cnn")):
        for n, strong in enumerate(("drawn:cnn/0", "drawn:clip")):
            values = [r["acc_w2s"] for r in rows if (r["weak"], r["strong"]) == (weak, strong)]
            assert found[label][n + 1].split(" ±")[0] == f"{100 * np.mean(values):.1f}"
    code, shown, _ = said("report", out, "--against", f"recipe:{file}")
    assert code == 0 and "weak alone" in shown and shown.count("Selection: the last epoch") == 1


def test_ctrl_c_keeps_the_rows_of_finished_fits(
    said: Said, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = study.open_task

    def stopped(data: str, **options: Any) -> Task:
        if data == "drawn:infograph":
            raise KeyboardInterrupt
        return real(data, **options)

    monkeypatch.setattr(study, "open_task", stopped)
    out = tmp_path / "r.jsonl"
    code, _, err = said(*RUN, "--out", out)
    assert code == 3
    assert err.splitlines()[-1] == f"stopped: rows and predictions of drawn:clipart are in {out}"
    assert {row["data"] for row in Results.load(out).rows} == {"drawn:clipart"} and small == ["drawn:clipart"]


@pytest.fixture
def swept(said: Said, tmp_path: Path) -> Iterator[Path]:
    """A sweep over two rates on three domains."""
    grid, out = tmp_path / "grid.toml", tmp_path / "s.jsonl"
    grid.write_text(
        'method = ["cpl", "kd+lp"]\nseeds = 2\ndata = ["drawn:clipart", "drawn:real", "drawn:sketch"]\n'
        "[settings]\nepochs = 2\nlr = [0.1, 0.0001]\n"
    )
    code, _, err = said("sweep", grid, "--out", out, "-q")
    assert code == 0, err
    yield out


def test_tuned_by_leaving_one_domain_out(said: Said, swept: Path) -> None:
    code, shown, err = said("report", swept, "--tune", "lodo", "--format", "md", "--layout", "blocks")
    assert code == 0, err
    assert "the best of 2 on the hold-val ground truth of the other domains" in shown
    rows = [r for r in Results.load(swept).rows if r["selection"] == "last"]
    for domain in ("clipart", "real", "sketch"):
        for method in ("cpl", "kd+lp"):
            names = sorted({r["method"] for r in rows if r["method"].startswith(f"{method}[")})
            assert len(names) == 2

            def score(name: str, domain: str = domain) -> float:
                others = [r for r in rows if r["method"] == name and r["domain"] != domain]
                return float(np.mean([r["acc_val"] or 0.0 for r in others]))

            best = min(names, key=lambda name: (-round(score(name), 9), name))  # of equal ones the first
            page = shown.partition(f"## {domain}\n")[2].partition("##")[0]
            values = [r["acc_w2s"] for r in rows if r["method"] == best and r["domain"] == domain]
            assert table(page)[method][0].split(" ±")[0] == f"{100 * np.mean(values):.1f}"
    code, shown, _ = said("report", swept, "--tune", "lodo", "--against", "recipe:cpl_table1", "--format", "md")
    assert code == 0 and table(shown)["cpl"][1] == "73.10" and "best of 2" in shown
    code, shown, err = said("report", swept, "--tune", "lodo", "--json")
    assert code == 0 and "best of 2" in err and {json.loads(x)["system"] for x in shown.splitlines()} >= {"cpl", "weak"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--tune", "lodi"], "unknown tuning 'lodi'; did you mean 'lodo'"),
        (["--against", "cpl_table1"], "write recipe:NAME"),
        (["--against", "recipe:cpl_tabel1"], "did you mean 'cpl_table1'"),
        (["--against", "recipe:cpl_table1", "--format", "latex"], "unknown format 'latex'"),
        (["--against", "recipe:cpl_table1", "--picture", "x.svg"], "leave out --against"),
        (["--format", "html"], "unknown format 'html'"),
    ],
)
def test_wrong_reports_are_one_sentence(said: Said, swept: Path, argv: list[str], words: str) -> None:
    code, out, err = said("report", swept, *argv)
    assert (code, out) == (2, "") and words in err and err.count("\n") == 1

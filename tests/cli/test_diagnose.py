"""`diagnose`, `data clean` and `explain` on the embedded data: against brute force, and with planted faults."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from diagnose_worlds import planted, precision_recall
from drawn_folder import WEAK, drawn_folder

import w2s_fast as w2s
from w2s_fast.diagnose import diagnose, names
from w2s_fast.report.subjects import subject_of


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache with drawn pictures, and beside it results of two methods and a saved head."""
    folder = tmp_path_factory.mktemp("drawn")
    drawn_folder(folder / "pictures")
    before = os.environ.get("W2S_FAST_CACHE")
    os.environ["W2S_FAST_CACHE"] = str(folder / "cache")
    results = w2s.fit(opened(folder), method=["cpl", "kd+lp"], seeds=1, epochs=3)
    results.save(folder / "r.jsonl")
    results.best("last", method="cpl").save(folder / "cpl")
    yield folder
    os.environ.pop("W2S_FAST_CACHE") if before is None else os.environ.update(W2S_FAST_CACHE=before)


def opened(folder: Path) -> w2s.Task:
    return w2s.open_task(f"imagefolder:{folder / 'pictures'}", weak=WEAK)


def run(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[str, str]:
    from w2s_fast_cli.main import run as program

    with pytest.raises(SystemExit) as end:
        program(list(args))
    captured = capsys.readouterr()
    assert end.value.code == code, captured.err
    return captured.out, captured.err


@pytest.fixture
def here(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("W2S_FAST_CACHE", str(cache / "cache"))
    monkeypatch.chdir(cache)
    return cache


def data(here: Path) -> tuple[str, ...]:
    return "--data", f"imagefolder:{here / 'pictures'}", "--weak", WEAK


def test_diagnose_equals_brute_force_on_the_drawn_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("purity", "weak_errors", "duplicates", "students")
    out, _ = run(capsys, "diagnose", *asked, *data(here), "--results", "r.jsonl", "--json")
    found = {d["name"]: d for d in json.loads(out)}
    task = opened(here)
    split = task.splits(seed=0)
    pool = np.sort(np.concatenate([split.train, split.val, split.test]))
    x, y = task.features.double().numpy(), task.manifest.labels
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similar = unit[pool] @ unit[pool].T
    np.fill_diagonal(similar, -np.inf)
    near = np.argsort(-similar, axis=1)[:, :50]
    weak = task.weak_logits[0].numpy().argmax(1)
    for row in found["purity"]["rows"]:
        of = (y if row["labels"] == "ground truth" else weak)[pool]
        for k in (1, 5, 10, 50):
            assert row[f"k={k}"] == pytest.approx(np.mean(of[:, None] == of[near[:, :k]]), abs=2e-5)
    (row,) = found["weak_errors"]["rows"]
    votes = np.array([np.bincount(weak[pool][n], minlength=40).argmax() for n in near[:, :10]])
    flagged, wrong = votes != weak[pool], weak[pool] != y[pool]
    assert row["error"] == pytest.approx(wrong.mean())
    assert row["error_flagged"] == pytest.approx(wrong[flagged].mean(), abs=1e-3)
    every = unit @ unit.T
    np.fill_diagonal(every, -np.inf)
    least = 0.13 * np.median(1 - every.max(1))
    pairs = {(a, b) for a, b in np.argwhere(1 - every < least).tolist() if a < b}
    assert sum(r["rows"] - 1 for r in found["duplicates"]["rows"]) == len(pairs)
    rows = {r["student"]: r for r in found["students"]["rows"]}
    kept = {
        r["method"]: r for r in map(json.loads, (here / "r.jsonl").read_text().splitlines()) if r["selection"] == "last"
    }
    for name in ("cpl", "kd+lp"):
        assert rows[name]["accuracy"] == pytest.approx(kept[name]["acc_w2s"])
        assert rows[name]["agree wrong"] == pytest.approx(kept[name]["agree_wrong"])


def test_every_diagnostic_runs_and_no_truth_hands_over_no_label(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "diagnose", *data(here), "--results", "r.jsonl", "--head", "cpl", "--json")
    assert {d["name"] for d in json.loads(out)} == set(names())
    out, _ = run(capsys, "diagnose", *data(here), "--results", "r.jsonl", "--head", "cpl", "--no-truth", "--json")
    assert json.loads(out)
    assert not any(d["reads_truth"] for d in json.loads(out))
    _, err = run(capsys, "diagnose", "mislabelled", *data(here), "--no-truth", code=2)
    assert "needs ground truth" in err
    out, _ = run(capsys, "diagnose", "purity", *data(here), "--format", "md")
    assert out.startswith("**Neighbour purity")
    out, _ = run(capsys, "diagnose", "--list")
    assert all(name in out for name in names())
    _, err = run(capsys, "diagnose", "purity", *data(here), "--index", "ivf")
    assert "recall" in err
    assert list((here / "cache" / "indexes").rglob("*.faiss"))


def test_faults_planted_in_the_drawn_data_are_named(here: Path) -> None:
    subject, faults = planted(subject_of(opened(here)), copies=12, swapped=40, leaks=12)
    own = {tuple(sorted((r["id"], r["other"]))) for r in diagnose(subject, ["leakage"])[0].records()}
    sets = {tuple(sorted(r["ids"].split())) for r in diagnose(subject, ["duplicates"])[0].records()}
    named = {r["id"] for r in diagnose(subject, ["mislabelled"])[0].records()}
    for what, found, wanted in (
        ("duplicates", sets, faults["copies"] | faults["leaks"]),
        ("leakage", own, faults["leaks"]),
        ("mislabelled", named, faults["swapped"]),
    ):
        precision, recall = precision_recall(found, wanted)
        print(f"{what}: {len(wanted)} planted, {len(found)} named, precision {precision:.3f}, recall {recall:.3f}")
        assert recall == 1 or what == "mislabelled"
        assert recall > 0.5, "in data whose classes overlap, some swapped labels look right"
        assert precision > 0.9 or what == "mislabelled"


def test_data_clean_keeps_one_of_each_set(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy of a test picture among those of D_train, re-encoded, goes; a copy under another class goes whole."""
    from PIL import Image

    folder = drawn_folder(tmp_path / "pictures", train=1, test=3)
    with Image.open(folder / "test" / "bird" / "001.png") as picture:
        picture.save(folder / "train" / "bird" / "copy.jpg", quality=98)
    with Image.open(folder / "test" / "key" / "002.png") as picture:
        picture.save(folder / "test" / "hat" / "wrong.bmp")
    out, kept = tmp_path / "out.csv", tmp_path / "kept_{train,test}.txt"
    said, _ = run(capsys, "data", "clean", f"imagefolder:{folder}", "--out", str(out), "--list", str(kept))
    with out.open() as file:
        found = {r["uri"]: r for r in csv.DictReader(file)}
    copies = {"train/bird/copy.jpg", "test/key/002.png", "test/hat/wrong.bmp"}
    assert copies <= set(found)
    assert found["train/bird/copy.jpg"]["reason"] == "duplicates"
    assert found["test/hat/wrong.bmp"]["reason"] == "duplicates with different labels"
    assert said.startswith(f"{len(found)} of 162 images")
    again = w2s.open_task(f"list:{kept}", root=folder, weak=WEAK)
    assert set(again.manifest.uris).isdisjoint(found)
    assert len(again.manifest) == 162 - len(found)
    _, err = run(capsys, "data", "clean", f"imagefolder:{folder}", "--list", "x.txt", "--out", str(out), code=2)
    assert "{train,test}" in err
    _, err = run(capsys, "data", "clean", f"imagefolder:{folder}", "--what", "purity", "--out", str(out), code=2)
    assert "no reason" in err


def test_what_to_leave_out(here: Path) -> None:
    from w2s_fast.diagnose.clean import to_leave_out

    subject = subject_of(opened(here))
    x, labels = subject.features.clone(), subject.labels.clone()
    train, pool = subject.parts["D_train"], subject.pool
    x[train[0]], labels[train[0]] = x[pool[5]], labels[pool[5]]
    x[pool[7]], labels[pool[7]] = x[pool[8]], (labels[pool[8]] + 1) % 40
    found = {one.row: one for one in to_leave_out(replace(subject, features=x, labels=labels))}
    assert found[train[0]].reason == "duplicates"
    assert found[train[0]].kept == subject.ids[pool[5]], "the pool's copy stays"
    assert {found[pool[7]].reason, found[pool[8]].reason} == {"duplicates with different labels"}
    assert pool[5] not in found
    more = to_leave_out(replace(subject, features=x, labels=labels), ("duplicates", "mislabelled", "outliers(z=8)"))
    assert len(more) > len(found)
    assert len({one.row for one in more}) == len(more)
    with pytest.raises(w2s.W2SError, match="no reason to leave a row out"):
        to_leave_out(subject, ("purity",))


def test_explain_names_what_can_be_recomputed(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The worst images, their top-5, neighbours and pulls, each from the tensors by NumPy."""
    page = tmp_path / "worst.html"
    args = ("explain", "r.jsonl", "--worst", "3", "--head", "cpl", "--json", "--html", str(page))
    out, _ = run(capsys, *args)
    found = json.loads(out)
    task = opened(here)
    split, y = task.splits(seed=0), task.manifest.labels
    z = task.weak_logits[0].double().numpy()
    w = np.exp(z - z.max(1, keepdims=True))
    w /= w.sum(1, keepdims=True)
    head, theta, _ = w2s.load_head(here / "cpl")
    x = task.features.double().numpy()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    weights = head.weights(theta)[0].double().numpy()
    rows = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    logits = unit @ rows.T / head.tau_s
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    wrong = [r for r in split.test if p[r].argmax() != y[r]]
    wanted = sorted(wrong, key=lambda r: -w[r, y[r]])[:3]
    assert [one["id"] for one in found] == [task.ids[r] for r in wanted]
    for one, r in zip(found, wanted, strict=True):
        top = np.argsort(-p[r])[:5]
        assert [g["label"] for g in one["systems"]["cpl"]] == [task.classes[c] for c in top]
        assert [g["prob"] for g in one["systems"]["cpl"]] == pytest.approx(p[r][top], abs=1e-4)
        assert one["systems"]["kd+lp"][0]["prob"] is None
        similar = unit @ unit[r]
        similar[r] = -1
        assert [n["id"] for n in one["neighbours"]] == [task.ids[j] for j in np.argsort(-similar)[:8]]
        assert [g["label"] for g in one["prototypes"]] == [task.classes[c] for c in np.argsort(-(rows @ unit[r]))[:5]]
        c = p[r].argmax()
        pull = (w[split.train, c] - p[split.train, c]) * (unit[split.train] @ unit[r])
        assert [n["pull"] for n in one["pulled"]] == pytest.approx(np.sort(pull)[::-1][:8], abs=1e-4)
    assert page.read_text().count("data:image/jpeg") >= 3 * 9
    one, _ = run(capsys, "explain", "r.jsonl", "--item", found[0]["id"][:10], "--method", "kd+lp")
    assert found[0]["id"] in one
    assert "nearest images" in one
    blind, _ = run(capsys, "explain", "r.jsonl", "--worst", "1", "--no-truth", "--json")
    assert json.loads(blind)[0]["truth"] is None
    _, err = run(capsys, "explain", "r.jsonl", code=2)
    assert "--item ID" in err
    _, err = run(capsys, "explain", "r.jsonl", "--item", "nowhere", code=2)
    assert "no test image" in err


def test_report_writes_a_page_with_images_and_diagnostics(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    run(capsys, "report", "r.jsonl", "--html", str(page), "--images", "12")
    first = page.read_bytes()
    assert first.count(b"data:image/jpeg") > 12
    assert b"Students on the test rows" in first
    assert len(first) < 1_000_000
    run(capsys, "report", "r.jsonl", "--html", str(page), "--images", "12")
    assert page.read_bytes() == first
    _, err = run(capsys, "report", "r.jsonl", "--html", str(page), "--cache", str(tmp_path / "empty"))
    assert "no images of" in err
    assert b"data:image/jpeg" not in page.read_bytes()

"""`cache` at the command line: damage is told on stderr and in records, and no listing hides it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one bank of images and one of class names."""
    for label, shade in (("axe", 40), ("bird", 200)):
        (tmp_path / "pics" / label).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (32, 32), (shade, i, 0)).save(tmp_path / "pics" / label / f"{i}.png")
    monkeypatch.setenv("W2S_FAST_CACHE", str(tmp_path / "cache"))
    code, out, _ = said("extract", "--data", f"imagefolder:{tmp_path / 'pics'}", "--model", "drawn:clip", "--json")
    assert code == 0
    images, names = (json.loads(line) for line in out.splitlines())
    assert images["rows"] == 8 and names["rows"] == 2 and "class names" in names["data"]
    assert set(images) == set(names) and images["key"] != names["key"]
    return tmp_path / "cache"


def test_sound_banks(said: Said, cache: Path) -> None:
    code, out, err = said("cache", "verify", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and len(records) == 2 and err.count("bytes verified") == 2
    assert all(r["problem"] is None and r["bytes"] > 0 for r in records)
    code, out, _ = said("cache", "info", records[0]["key"], "--json")
    assert code == 0 and json.loads(out)["key"] == records[0]["key"]
    assert "problem" not in said("cache", "ls")[1]


def test_damage_is_told_on_stderr_and_in_records(said: Said, cache: Path) -> None:
    bank = next(p.parent for p in cache.glob("v1/??/*/complete.json"))
    part = next(p for p in bank.rglob("features/c/*/*"))
    part.write_bytes(bytes([part.read_bytes()[0] ^ 1]) + part.read_bytes()[1:])
    code, out, err = said("cache", "verify")
    assert (code, out) == (1, "") and sum(line.startswith("error: ") for line in err.splitlines()) == 1
    code, out, err = said("cache", "verify", "--json")
    records = {r["key"]: r for r in map(json.loads, out.splitlines())}
    assert code == 1 and len(records) == 2 and "error: " in err
    assert records[bank.name]["bytes"] is None and str(part) in records[bank.name]["problem"]


def test_a_bank_that_cannot_be_opened_is_listed_and_verified(said: Said, cache: Path) -> None:
    done = next(cache.glob("v1/??/*/complete.json"))
    done.write_text("{")
    code, out, _ = said("cache", "ls", "--json")
    (problem,) = [r["problem"] for r in map(json.loads, out.splitlines()) if r["problem"]]
    assert code == 0 and "complete.json" in problem
    assert "problem" in said("cache", "ls")[1]
    assert said("cache", "verify")[0] == 1


def test_repair_and_extract_mend_what_is_damaged(said: Said, cache: Path, tmp_path: Path) -> None:
    bank = next(k.parent for k in cache.glob("v1/??/*/key.json") if b'"kind":"images"' in k.read_bytes())
    digest = json.loads(said("cache", "info", bank.name)[1])["digest"]
    code, out, err = said("cache", "repair", bank.name[:8])
    assert (code, out) == (0, "") and "nothing is damaged" in err
    next(bank.rglob("features/c/0/0")).write_bytes(b"short")
    code, out, err = said("cache", "repair", bank.name, "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [r["rows"] for r in records] == [None, [0, 8]] and "w2s-fast extract --data" in err
    described = json.loads(said("cache", "info", bank.name)[1])
    assert (described["complete"], described["rows"]) == (False, 0) and described["ingredients"]["kind"] == "images"
    data = f"imagefolder:{tmp_path / 'pics'}"
    code, out, _ = said("extract", "--data", data, "--model", "drawn:clip", "--json")
    assert code == 0 and json.loads(out.splitlines()[0])["digest"] == digest
    code, out, err = said("cache", "gc", "--json")
    assert (code, out) == (0, "") and "0 removed" in err
    code, out, err = said("cache", "gc", "--older-than", "0", "--dry-run", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 3 and not any(r["removed"] for r in records) and "3 would go" in err
    assert said("cache", "gc", "--older-than", "0")[0] == 0
    assert not list(cache.rglob(".tmp-*")) and said("cache", "verify", "--deep")[0] == 0
    assert said("cache", "gc", "--older-than", "-1")[0] == 2


def test_recompute_encodes_rows_again(said: Said, cache: Path, tmp_path: Path) -> None:
    code, out, err = said("cache", "verify", "--recompute", "3", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and sorted(r["recomputed"]["rows"] for r in records) == [2, 3]
    assert all(r["recomputed"]["min_cosine"] > 0.9999 for r in records) and err.count("encoded again") == 2
    (tmp_path / "pics").rename(tmp_path / "moved")
    code, out, _ = said("cache", "verify", "--recompute", "3", "--json")
    assert code == 1 and sum(json.loads(line)["problem"] is not None for line in out.splitlines()) == 1
    assert said("cache", "verify", "--recompute", "3", "--data", f"imagefolder:{tmp_path / 'moved'}")[0] == 0
    assert said("cache", "verify", "--data", "x")[0] == 2


def test_why_names_the_ingredient(said: Said, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "pics" / "axe" / "0.png").unlink()
    data = f"imagefolder:{tmp_path / 'pics'}"
    assert said("extract", "--data", data, "--model", "drawn:clip")[0] == 0
    a, b = (k.parent.name for k in cache.glob("v1/??/*/key.json") if b'"kind":"images"' in k.read_bytes())
    code, out, _ = said("cache", "why", a, b, "--json")
    assert code == 0 and [json.loads(line)["ingredient"] for line in out.splitlines()] == ["rows"]


def test_a_bucket_is_a_cache(said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    for label in ("axe", "bird"):
        (tmp_path / "pics" / label).mkdir(parents=True)
        Image.new("RGB", (32, 32), (len(label), 9, 0)).save(tmp_path / "pics" / label / "0.png")
    bucket = ("--cache", "memory://command-line/team")
    monkeypatch.setenv("W2S_FAST_MIRRORS", str(tmp_path / "a"))
    data = ("--data", f"imagefolder:{tmp_path / 'pics'}", "--model", "drawn:clip", "--json")
    assert said("extract", *data, *bucket)[0] == 0
    monkeypatch.setenv("W2S_FAST_MIRRORS", str(tmp_path / "b"))
    code, out, _ = said("cache", "ls", *bucket, "--json")
    listed = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [b["rows"] for b in listed] == [2, 2] and all(b["complete"] for b in listed)
    assert said("cache", "verify", "--deep", *bucket)[0] == 0
    code, out, _ = said("extract", *data, *bucket)
    assert code == 0 and {json.loads(line)["made_parts"] for line in out.splitlines()} == {0}

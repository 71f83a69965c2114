"""One bucket, several machines: banks appear whole and agree. Memory and local files stand for S3."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_s3 import Bucket

from w2s_fast.core.errors import BankMissing, CacheError, Damaged, UsageError
from w2s_fast.core.paths import cache_root, mirrored
from w2s_fast.store import (
    begin_bank,
    collect_garbage,
    list_banks,
    mirror,
    missing_parts,
    open_bank,
    open_key,
    repair_bank,
    verify_bank,
    write_ref,
)
from w2s_fast.store.objects import BucketObjects, Objects, open_objects

obstore_store = pytest.importorskip("obstore.store")
NUMBER = itertools.count()


@pytest.fixture(params=["obstore memory", "obstore files"])
def objects(request, tmp_path) -> Objects:
    if request.param == "obstore memory":
        return BucketObjects(store=obstore_store.MemoryStore(), url="memory://x")
    return BucketObjects(store=obstore_store.LocalStore(prefix=str(tmp_path / "bucket"), mkdir=True), url="file")


@pytest.fixture
def url() -> str:
    return f"memory://bucket-{next(NUMBER)}/team"


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """`machine("b")`: from now on this is machine b, which has its own mirror and shares the bucket."""

    def become(name: str) -> Path:
        monkeypatch.setenv("W2S_FAST_MIRRORS", str(tmp_path / name))
        return tmp_path / name

    become("a")
    return become


def test_put_get_list_delete(objects):
    assert objects.put("v1/a/x", b"one") and objects.put("v1/b", b"")
    assert not objects.put("v1/a/x", b"two") and objects.get("v1/a/x", limit=3) == b"one"
    assert objects.put("v1/a/x", b"three", replace=True) and objects.get("v1/a/x", limit=5) == b"three"
    assert [(s.name, s.bytes) for s in objects.list("v1")] == [("v1/a/x", 5), ("v1/b", 0)]
    assert [s.name for s in objects.list("v1/a")] == ["v1/a/x"] and list(objects.list("v2")) == []
    assert all(s.modified > 1e9 for s in objects.list("v1"))
    with pytest.raises((CacheError, OSError), match="more than 4"):
        objects.get("v1/a/x", limit=4)
    objects.delete("v1/a/x"), objects.delete("v1/a/x")
    with pytest.raises(FileNotFoundError):
        objects.get("v1/a/x", limit=9)
    assert objects.put("v1/a/x", b"again")


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", "./a"])
def test_names_stay_inside(objects, name):
    for call in (lambda: objects.put(name, b""), lambda: objects.get(name, limit=1), lambda: objects.delete(name)):
        with pytest.raises(CacheError, match="is not a name of an object"):
            call()


def test_addresses(monkeypatch, tmp_path, machine):
    here = machine("a")
    root = cache_root("s3://bucket/some/prefix/")
    assert root == here / "s3%3A%2F%2Fbucket%2Fsome%2Fprefix" and mirrored(root) == "s3://bucket/some/prefix"
    assert cache_root(Path("s3://bucket/some/prefix")) == root, "pathlib drops a slash"
    assert mirrored(tmp_path) is None and cache_root("s3files/x") == Path("s3files/x")
    monkeypatch.setenv("W2S_FAST_CACHE", "gs://b/p")
    assert mirrored(cache_root()) == "gs://b/p"
    with pytest.raises(UsageError, match="too long"):
        cache_root("s3://" + "x" * 300)


def test_a_bank_made_here_is_read_there(url, rows, machine):
    digest = rows.finish(url)
    write_ref(url, model="m", data="d", key=rows.begin(url).name, rows_digest=rows.rows_digest)
    names = [s.name for s in open_objects(url).list("v1")]
    assert sum(n.endswith("/c/0/0") for n in names) == 9 and sum("/commits/" in n for n in names) == 3
    machine("b")
    bank = open_bank("m", "d", cache=url)
    assert bank.digest == digest and bank.ids == rows.ids and verify_bank(bank, deep=True) > 0
    with pytest.raises(BankMissing, match=f"W2S_FAST_CACHE={url} w2s-fast extract"):
        open_bank("m", "other", cache=url)


def test_machines_share_the_work(url, rows, machine):
    bank = rows.begin(url)
    rows.write(bank, 0)
    machine("b")
    bank = rows.begin(url)
    assert missing_parts(bank, 18) == [1, 2]
    rows.write(bank, 2)
    machine("c")
    assert (rows.begin(url), missing_parts(rows.begin(url), 18))[1] == [1]
    with pytest.raises(BankMissing, match="is incomplete"):
        open_key(bank.name, cache=url)
    digest = rows.finish(url)
    machine("a")
    assert open_key(bank.name, cache=url).digest == digest


def test_the_first_commit_counts_everywhere(url, rows, machine):
    """Two machines make the same part with different last bits, neither knowing of the other."""
    ours, theirs = rows, rows.with_(features=rows.features * 2)
    bank = ours.begin(url)
    real = mirror.agree
    machine("b")
    other = theirs.begin(url)
    theirs.write(other, 0)
    machine("a")
    ours.write(bank, 0)
    assert open_objects(url) is not None and mirror.agree is real
    for name in ("a", "b"):
        machine(name)
        rows.finish(url)
        assert open_key(bank.name, cache=url).array("features")[0, 0] == pytest.approx(
            2 * rows.features[0, 0], rel=1e-3
        )


def test_of_two_uploads_at_once_the_first_commit_counts(url, rows, machine, monkeypatch):
    """Machine a looks before b has committed, and commits after it."""
    bank = rows.begin(url)
    machine("b")
    rows.with_(features=rows.features * 2).write(rows.begin(url), 0)
    store = open_objects(url)
    name = next(s.name for s in store.list("v1") if "/commits/" in s.name)
    first = store.get(name, limit=10**6)
    machine("a")
    real = BucketObjects.list
    with monkeypatch.context() as patch:
        patch.setattr(BucketObjects, "list", lambda self, prefix: (s for s in real(self, prefix) if s.name != name))
        rows.write(bank, 0)
    assert store.get(name, limit=10**6) == first == (bank / "commits/000000.json").read_bytes()
    rows.finish(url)
    found = open_key(bank.name, cache=url).array("features")
    assert found[0, 0] == pytest.approx(2 * rows.features[0, 0], rel=1e-3)


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_every_stop_of_an_upload_leaves_old_or_new(url, rows, machine, monkeypatch, every):
    rows = rows.with_(ids=rows.ids[:10], features=rows.features[:10], logits=rows.logits[:10], ok=rows.ok[:10])
    key = rows.begin(url).name
    real, done = BucketObjects.put, []
    for stop in (k for k in range(1, 60) if k % every == 1 % every or 22 < k < 29):
        left = [stop]

        def dying(self, name, data, *, replace=False, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return real(self, name, data, replace=replace)

        here = machine(f"stopped-{stop}")
        address = f"{url}/{stop}"
        with monkeypatch.context() as patch:
            patch.setattr(BucketObjects, "put", dying)
            try:
                rows.finish(address)
                done.append(stop)
            except KeyboardInterrupt:
                pass
        machine(f"reader-{stop}")
        if not done:
            with pytest.raises(BankMissing):
                open_key(key, cache=address)
        machine(f"stopped-{stop}" if stop % 2 else f"reader-{stop}")
        rows.finish(address)
        machine(f"fresh-{stop}")
        assert verify_bank(key, deep=True, cache=address) > 0
        shutil.rmtree(here)
        if done:
            break
    assert done and done[0] > 24


@pytest.mark.parametrize("how", ["flipped", "gone", "commit"])
def test_damage_in_the_bucket_is_never_taken_for_data(url, rows, machine, how):
    digest = rows.finish(url)
    key = rows.begin(url).name
    store = open_objects(url)
    names = [s.name for s in store.list("v1")]
    name = next(n for n in names if n.endswith("000001.json" if how == "commit" else "features/c/0/0"))
    data = bytearray(store.get(name, limit=10**6))
    data[len(data) // 2] ^= 1
    store.delete(name) if how == "gone" else store.put(name, bytes(data), replace=True)
    machine("b")
    with pytest.raises((Damaged, BankMissing)):
        open_key(key, cache=url)
    repair_bank(key, cache=url)
    assert rows.finish(url) == digest
    machine("c")
    assert open_key(key, cache=url).digest == digest and verify_bank(key, deep=True, cache=url) > 0


def test_the_list_fetches_no_features(url, rows, machine, monkeypatch):
    rows.finish(url)
    rows.with_(ingredients={"other": 1}).write(rows.with_(ingredients={"other": 1}).begin(url), 1)
    machine("b")
    real = BucketObjects.get

    def records_only(self, name, *, limit):
        assert name.endswith(".json")
        return real(self, name, limit=limit)

    monkeypatch.setattr(BucketObjects, "get", records_only)
    listed = {b.complete: b for b in list_banks(url)}
    assert listed[True].rows == 18 and listed[True].dim == 5 and listed[True].bytes > 2000
    assert listed[False].rows == 7


def test_a_bucket_that_refuses_is_one_sentence(url, rows, monkeypatch):
    from obstore.exceptions import PermissionDeniedError

    def refuse(self, name, data, *, replace=False):
        raise PermissionDeniedError("403 Forbidden\nDebug source: ...")

    monkeypatch.setattr("obstore.put", lambda *a, **k: refuse(*a[:3]))
    with pytest.raises(CacheError, match=r"^memory://.*: 403 Forbidden; check the address") as caught:
        begin_bank(url, rows.ingredients)
    assert "\n" not in str(caught.value)


def test_without_obstore_the_extra_is_named(tmp_path):
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "from w2s_fast.store.objects import open_objects\n"
        "from w2s_fast.core.errors import UsageError\n"
        "try: open_objects('s3://b/p')\n"
        "except UsageError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'w2s_fast[cloud]'" in done.stdout


def test_gc_clears_a_bucket_of_what_no_commit_names(url, rows, machine):
    digest = rows.finish(url)
    store = open_objects(url)
    key = rows.begin(url).name
    names = [s.name for s in store.list("v1")]
    store.put(f"v1/{key[:2]}/{key}/parts/000000.{'0' * 16}/ok/c/0", b"left by a stopped upload")
    assert list(collect_garbage(cache=url)) == []
    found = list(collect_garbage(cache=url, older_than=-5, dry_run=True))
    assert [str(g.path)[-16:] for g in found] == ["0" * 16] and found[0].bytes == 24
    assert list(collect_garbage(cache=url, older_than=-5)) == found
    assert [s.name for s in store.list("v1")] == names
    machine("b")
    assert open_key(key, cache=url).digest == digest


@pytest.mark.parametrize("victim", [0, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, *range(4, 30)))])
def test_a_bank_is_whole_whichever_of_its_writes_a_store_refused_without_reason(
    victim: int, rows, machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 409 to one PUT, which wrote nothing: another machine finds everything, or the writer ended with an error."""
    server = Bucket(lambda path, number: "409" if number == victim else None)
    for name, value in {
        "AWS_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        url = f"s3://team/{next(NUMBER)}"
        machine("a")
        digest = rows.finish(url)
        machine("b")
        found = open_key(rows.begin(url).name, cache=url)
        assert found.digest == digest and verify_bank(found, deep=True) > 0
        assert next(server.puts) > victim
    finally:
        server.close()

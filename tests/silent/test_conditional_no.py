"""A store's "it exists" is read back before it is believed: equal is ours, absent is tried again, other is not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from small_s3 import Bucket, Fault

from w2s_fast.core.errors import CacheError
from w2s_fast.store import objects as stores
from w2s_fast.store.objects import BucketObjects

SOON = timedelta(milliseconds=1)
obstore_store = pytest.importorskip("obstore.store")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Fault], tuple[BucketObjects, Bucket]]]:
    monkeypatch.setattr(stores, "CONFLICT_WAITS", (0.0, 0.0, 0.0))
    servers: list[Bucket] = []

    def start(fault: Fault) -> tuple[BucketObjects, Bucket]:
        server = Bucket(fault)
        servers.append(server)
        store = obstore_store.S3Store(
            "team",
            endpoint=f"http://127.0.0.1:{server.server_port}",
            access_key_id="a",
            secret_access_key="b",
            region="us-east-1",
            client_options={"allow_http": True},
            retry_config={"max_retries": 2, "backoff": {"base": 2, "init_backoff": SOON, "max_backoff": SOON}},
        )
        return BucketObjects(store=store, url="s3://team"), server

    yield start
    for server in servers:
        server.close()


def once(answer: str) -> Fault:
    return lambda path, number: answer if number == 0 else None


@pytest.mark.parametrize(
    ("fault", "puts"),
    [(once("409"), 2), (once("412"), 2), (once("409 stored"), 1), (once("412 stored"), 1), (once("500 stored"), 2)],
    ids=["409, nothing written", "412, nothing written", "409, written", "412, written", "500, written"],
)
def test_what_the_store_refused_is_there_all_the_same(bucket, fault: Fault, puts: int) -> None:
    objects, server = bucket(fault)
    assert objects.put("v1/x", b"mine") is True
    assert server.held["/team/v1/x"] == b"mine" and next(server.puts) == puts


def test_another_s_bytes_are_another_s(bucket) -> None:
    objects, server = bucket(lambda path, number: None)
    assert objects.put("v1/x", b"theirs") and not objects.put("v1/x", b"mine") and not objects.put("v1/x", b"them")
    assert objects.put("v1/x", b"theirs")
    assert server.held["/team/v1/x"] == b"theirs"


def test_a_store_that_never_takes_it_is_an_error(bucket) -> None:
    objects, server = bucket(lambda path, number: "409")
    with pytest.raises(CacheError, match=r"s3://team/v1/x: 3 times the store said that it exists, and it does not"):
        objects.put("v1/x", b"mine")
    assert not server.held and next(server.puts) == 3

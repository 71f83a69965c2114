"""Whatever happens to a cache, in whatever order: a dictionary says what must be in it, and nothing else is.

Hypothesis draws what happens: parts are extracted, writers are killed at any file operation, files are damaged, banks
are read, verified, repaired, cleared up, moved and copied to a bucket. The model below has one entry for each bank.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
from bank_model import GONE, HURT, SOUND, WHATS, Expected, calm
from fault_layer import AFTER, BEFORE, TORN, Killed, Layer, end_at
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from known_bank import DATA, MODEL, every_file, flipped, reads, same, small_parts

from w2s_fast.core.errors import BankMissing, CacheError, Damaged
from w2s_fast.store import (
    begin_bank,
    collect_garbage,
    complete_bank,
    garbage,
    layout,
    list_banks,
    missing_parts,
    open_bank,
    open_key,
    repair_bank,
    verify_bank,
    write_ref,
)
from w2s_fast.store.objects import open_objects
from w2s_fast.store.records import Commit

pytest.importorskip("obstore")

banks = st.integers(0, len(WHATS) - 1)


class Cache(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        small_parts(self.patch)
        self.home = Path(tempfile.mkdtemp(prefix="states-"))
        self.patch.setenv("W2S_FAST_MIRRORS", str(self.home / "mirrors"))
        self.cache = self.home / "cache"
        self.moves = 0
        self.expected = [Expected() for _ in WHATS]

    def teardown(self) -> None:
        try:
            for number, what in enumerate(WHATS):
                if self.expected[number].begun:
                    repair_bank(self.dir(number).name, cache=self.cache)
                    assert what.finish(self.cache) == calm(number).digest
                    self.read_all(number, self.cache)
        finally:
            self.patch.undo()
            shutil.rmtree(self.home)

    def dir(self, number: int) -> Path:
        return layout.bank_dir(self.cache, calm(number).key)

    def count(self, number: int) -> int:
        return layout.count_parts(WHATS[number].rows)

    def read_all(self, number: int, cache: Path | str) -> None:
        bank = open_key(calm(number).key, cache=cache)
        assert verify_bank(bank, deep=True) > 0 and bank.digest == calm(number).digest
        for name, (_, read, true) in reads(WHATS[number]).items():
            assert same(read(bank), true), name

    # What users do

    @initialize()
    def a_bank_and_a_half(self) -> None:
        """So that what follows has something to happen to."""
        self.begin(0), self.begin(1)
        for number, part in ((0, 2), (0, 0), (0, 1), (1, 1)):
            self.write(number, part)
        self.complete(0), self.refer(0)
        assert self.whole(0) and not self.whole(1)

    @rule(number=banks)
    def begin(self, number: int) -> None:
        e = self.expected[number]
        if e.begun and layout.key_file(self.dir(number)).is_dir():
            with pytest.raises(CacheError, match="regular file"):
                begin_bank(self.cache, WHATS[number].ingredients)
            return
        begin_bank(self.cache, WHATS[number].ingredients)
        e.begun, e.key = True, SOUND

    @rule(number=banks, part=st.integers(0, 2))
    def write(self, number: int, part: int) -> None:
        e, part = self.expected[number], part % self.count(number)
        if not e.begun or not layout.key_file(self.dir(number)).is_file():
            with pytest.raises(CacheError, match="begin_bank"):
                WHATS[number].written(self.dir(number), part)
        elif layout.commit_file(self.dir(number), part).is_dir():
            with pytest.raises(CacheError, match="irectory"):
                WHATS[number].written(self.dir(number), part)
        else:
            WHATS[number].written(self.dir(number), part)
            if part not in e.unseen:
                e.parts[part] = SOUND

    @rule(number=banks)
    def complete(self, number: int) -> None:
        e, what = self.expected[number], WHATS[number]
        if not e.begun:
            return

        def ask() -> str:
            return complete_bank(self.dir(number), rows=what.rows, rows_digest=what.rows_digest)

        if self.missing(number) or any(hurt & {"", "ids"} for hurt in e.unseen.values()):
            with pytest.raises(CacheError, match="run the same extract command again"):
                ask()
        elif layout.complete_file(self.dir(number)).is_dir():
            with pytest.raises(CacheError, match="regular file"):
                ask()
        else:
            assert ask() == calm(number).digest
            e.complete = SOUND

    @rule(number=banks)
    def refer(self, number: int) -> None:
        what = WHATS[number]
        write_ref(self.cache, model=MODEL, data=f"{DATA}{number}", key=calm(number).key, rows_digest=what.rows_digest)
        self.expected[number].named = True

    @rule(number=banks, by_name=st.booleans(), way=st.integers(0, 100))
    def read(self, number: int, by_name: bool, way: int) -> None:
        """Everything, in one of the ways; what is hurt raises, and what is not is the truth."""
        e = self.expected[number]

        def bank():
            return (
                open_bank(MODEL, f"{DATA}{number}", cache=self.cache)
                if by_name
                else open_key(calm(number).key, cache=self.cache)
            )

        if by_name and not e.named:
            with pytest.raises(BankMissing, match=f"no bank of {MODEL} on"):
                bank()
            return
        if not self.can_open(number):
            with pytest.raises(BankMissing if self.is_unfinished(number) else Damaged, match="w2s-fast extract"):
                bank()
            return
        opened = bank()
        names = sorted(reads(WHATS[number]))
        array, ask, true = reads(WHATS[number])[names[way % len(names)]]
        if any(array in hurt for hurt in e.unseen.values()):
            with pytest.raises(Damaged, match=r"\(rows \d+-\d+\); fix with: .*cache repair"):
                ask(opened)
        else:
            assert same(ask(opened), true)

    @rule(number=banks, deep=st.booleans())
    def verify(self, number: int, deep: bool) -> None:
        if self.whole(number):
            assert verify_bank(calm(number).key, cache=self.cache, deep=deep) > 0
        else:
            with pytest.raises(CacheError):
                verify_bank(calm(number).key, cache=self.cache, deep=deep)

    @rule(number=banks)
    def repair(self, number: int) -> None:
        e = self.expected[number]
        if not e.begun:
            with pytest.raises(BankMissing):
                repair_bank(calm(number).key, cache=self.cache)
            return
        fits = e.complete == GONE or (e.complete == SOUND and self.all_parts_sound(number))
        dropped = repair_bank(calm(number).key, cache=self.cache)
        assert (not dropped) == (fits and e.key != HURT and HURT not in e.parts.values()), dropped
        rows = {d.rows for d in dropped if d.rows}
        assert len(rows) == list(e.parts.values()).count(HURT), "as many parts as were hurt, and no other"
        if not fits:
            e.complete = GONE
        if e.key == HURT:
            e.key = GONE
        e.parts = {p: s for p, s in e.parts.items() if s == SOUND}
        e.unseen = {}

    @rule(days=st.sampled_from([0.0, 2.0, 30.0]))
    def clear_up(self, days: float) -> None:
        """After so many days: what is named is untouched, and what is not is gone, once it is old."""
        now = time.time() + days * 86400 + 60
        with mock.patch.object(garbage.time, "time", lambda: now):
            removed = list(collect_garbage(cache=self.cache))
            assert days or not removed, "nothing is a day old"
            if days:
                assert not list(self.cache.rglob(".tmp-*"))
                assert not list(collect_garbage(cache=self.cache))
        for number in range(len(WHATS)):
            e = self.expected[number]
            if days and e.named and not os.path.lexists(layout.key_file(self.dir(number))):
                e.named = False

    @rule(how=st.sampled_from(["copy", "rename"]))
    def migrate(self, how: str) -> None:
        self.moves += 1
        target = self.home / f"cache {self.moves}"
        if how == "copy":
            shutil.copytree(self.cache, target)
            shutil.rmtree(self.cache)
        else:
            self.cache.rename(target)
        self.cache = target

    @rule()
    def copy_to_a_bucket(self) -> None:
        """File by file, as a command of the cloud does it; another machine then reads what is whole."""
        self.moves += 1
        url = f"memory://{self.home.name}-{self.moves}/team"
        objects = open_objects(url)
        for path in every_file(self.cache):
            objects.put(path.relative_to(self.cache).as_posix(), path.read_bytes())
        for number in range(len(WHATS)):
            e = self.expected[number]
            if self.whole(number):
                self.read_all(number, url)
            elif e.begun:
                with pytest.raises(CacheError):
                    verify_bank(calm(number).key, cache=url, deep=True)

    # What happens to them

    @rule(
        number=banks, which=st.integers(0, 400), how=st.sampled_from(["flip", "cut", "gone", "zero", "swap", "folder"])
    )
    def damage(self, number: int, which: int, how: str) -> None:
        """One file that means something, as its record or its commit names it."""
        e = self.expected[number]
        found = self.meaningful(number)
        if not found:
            return
        path = found[which % len(found)]
        data = path.read_bytes()
        twin = self.twin(path)
        new = {
            "flip": flipped(data, which % (8 * len(data))),
            "cut": data[: which % len(data)],
            "zero": bytes(len(data)),
            "swap": twin.read_bytes() if twin is not None else data,
        }.get(how)
        if new == data:
            return
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif new is not None:
            path.write_bytes(new)
        inside = path.relative_to(self.dir(number)).parts
        state = GONE if how == "gone" else HURT
        if inside[0] == "key.json":
            e.key = state
        elif inside[0] == "complete.json":
            e.complete = state
        elif inside[0] == "commits":
            part = int(path.stem)
            e.unseen.pop(part, None)
            e.parts[part] = HURT
            if state == GONE:
                del e.parts[part]
        else:
            part = int(inside[1][:6])
            e.parts[part] = HURT
            if isinstance(new, bytes) and len(new) == len(data):
                e.unseen[part] = {"" if path.name == "zarr.json" else inside[2]}

    @rule(
        number=banks,
        what=st.sampled_from(["write", "complete", "repair", "gc", "refer", "begin"]),
        part=st.integers(0, 2),
        at=st.integers(0, 90),
        how=st.sampled_from([BEFORE, TORN, AFTER]),
    )
    def crash(self, number: int, what: str, part: int, at: int, how: str) -> None:
        """A writer is killed at its `at`-th file operation, if it has so many: every file is old or new."""
        k, part = WHATS[number], part % self.count(number)
        folder = self.dir(number)
        acts: dict[str, Callable[[], object]] = {
            "write": lambda: k.written(folder, part),
            "complete": lambda: complete_bank(folder, rows=k.rows, rows_digest=k.rows_digest),
            "repair": lambda: repair_bank(calm(number).key, cache=self.cache),
            "gc": lambda: list(collect_garbage(older_than=-60, cache=self.cache)),
            "refer": lambda: write_ref(
                self.cache, model=MODEL, data=f"{DATA}{number}", key=calm(number).key, rows_digest=k.rows_digest
            ),
            "begin": lambda: begin_bank(self.cache, k.ingredients),
        }
        with Layer(end_at(at, how)), suppress(Killed, CacheError):
            acts[what]()
        self.learn(number, what, part)

    def learn(self, number: int, what: str, part: int) -> None:
        """After a crash the model takes over what is there, if it is the old state or the new one."""
        e, folder = self.expected[number], self.dir(number)
        e.begun = e.begun or folder.is_dir()
        key, done = layout.key_file(folder), layout.complete_file(folder)
        if what == "begin" and key.is_file() and key.read_bytes() == calm(number).key_json:
            e.key = SOUND
        if what == "complete" and done.is_file() and done.read_bytes() == calm(number).complete_json:
            e.complete = SOUND
        if what == "write" and part not in e.unseen and part not in missing_parts(folder, WHATS[number].rows):
            e.parts[part] = SOUND
        if what == "refer":
            e.named = layout.ref_file(self.cache, MODEL, f"{DATA}{number}", {}).exists()
        if what == "gc":
            for n, other in enumerate(self.expected):
                ref = layout.ref_file(self.cache, MODEL, f"{DATA}{n}", {})
                assert ref.exists() or not other.named or other.key == GONE
                other.named = ref.exists() and other.named
        if what == "repair":
            if not os.path.lexists(key):
                assert e.key != SOUND
                e.key = GONE
            if not os.path.lexists(done):
                assert e.complete != SOUND or not self.all_parts_sound(number)
                e.complete = GONE
            for p in list(e.parts):
                if not os.path.lexists(layout.commit_file(folder, p)):
                    assert e.parts[p] == HURT
                    del e.parts[p]
                    e.unseen.pop(p, None)

    # What holds at any time

    @invariant()
    def parts_are_there_or_missing(self) -> None:
        for number, e in enumerate(self.expected):
            if e.begun:
                assert missing_parts(self.dir(number), WHATS[number].rows) == self.missing(number)

    @invariant()
    def the_list_says_what_is_whole(self) -> None:
        listed = {b.key: b for b in list_banks(self.cache)}
        for number, e in enumerate(self.expected):
            info = listed.get(calm(number).key)
            assert (info is not None and info.complete) == self.can_open(number)
            if info is not None and not info.complete:
                assert (info.problem is None) == (e.complete == GONE)

    def missing(self, number: int) -> list[int]:
        """The parts that an extraction makes: not committed, or hurt so that it shows."""
        e = self.expected[number]
        return [p for p in range(self.count(number)) if e.parts.get(p) != SOUND and p not in e.unseen]

    def whole(self, number: int) -> bool:
        e = self.expected[number]
        return e.key == SOUND and e.complete == SOUND and self.all_parts_sound(number)

    def can_open(self, number: int) -> bool:
        e = self.expected[number]
        metadata = any("" in hurt for hurt in e.unseen.values())
        return e.key == SOUND and e.complete == SOUND and not self.missing(number) and not metadata

    def is_unfinished(self, number: int) -> bool:
        e = self.expected[number]
        return e.complete == GONE and e.key != HURT

    def all_parts_sound(self, number: int) -> bool:
        return [self.expected[number].parts.get(p) for p in range(self.count(number))] == [SOUND] * self.count(number)

    def meaningful(self, number: int) -> list[Path]:
        """The files that a reader of the bank would open, and that are sound: damaged twice, they might be again."""
        folder, e = self.dir(number), self.expected[number]
        if not e.begun:
            return []
        records = ((e.key, layout.key_file(folder)), (e.complete, layout.complete_file(folder)))
        found = [path for state, path in records if state == SOUND]
        for part, state in sorted(e.parts.items()):
            path = layout.commit_file(folder, part)
            if state == SOUND:
                commit = Commit.from_bytes(path.read_bytes())
                inside = layout.parts_dir(folder) / commit.directory
                found += [path, *(inside / name for name in sorted(commit.files))]
        return found

    def twin(self, path: Path) -> Path | None:
        """The same file of another part."""
        if "parts" not in path.parts:
            return None
        at = path.parts.index("parts")
        for folder in sorted(Path(*path.parts[: at + 1]).glob("[0-9]*")):
            other = folder.joinpath(*path.parts[at + 2 :])
            if folder.name != path.parts[at + 1] and other.is_file():
                return other
        return None


@pytest.mark.parametrize(
    ("examples", "steps"), [(7, 20), pytest.param(250, 50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_a_cache_is_what_the_model_says(examples, steps):
    run_state_machine_as_test(
        Cache,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=examples < 100,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""An experiment is one value: what makes two of them equal, what is refused and where, how one is written and read."""

import json
from pathlib import Path
from typing import Any

import pytest

import w2s_fast as w2s
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.options import COMMAND_LINE
from w2s_fast.data import drawn
from w2s_fast.studies.experiment import Experiment
from w2s_fast.studies.sweep import read_sweep
from w2s_fast.studies.written import from_json, keep, kept, to_json, to_toml

MINE = "def mine(z, weak, batch):\n    return -(weak.probs * z.log_softmax(-1)).sum(-1){}\n"


def digest(**asked: Any) -> str:
    return Experiment.of({"data": "drawn:sketch", "loss": "kd", **asked}).digest


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a loss of one's own, class names and pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text(MINE.format(""))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    (tmp_path / "pictures").mkdir()
    return tmp_path


def test_equal_questions_are_equal_however_they_are_asked(mine: Path) -> None:
    pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"head": "linear", "seeds": [0], "split": "rotate", "weak": "drawn:cnn", "settings": {"solver": "adam"}}),
        ({"loss": "kd"}, {"loss": "kd(tau_w=1)"}),
        ({"loss": ["kd", "ce"], "seeds": "3"}, {"loss": ["ce", "kd"], "seeds": [2, 0, 1]}),
        ({"data": "drawn:*"}, {"data": [f"drawn:{name}" for name in sorted(drawn.DOMAINS)]}),
        ({"data": "imagefolder:pictures"}, {"data": f"imagefolder:{mine}/pictures"}),
        ({"root": "pictures"}, {"root": mine / "pictures"}),
        ({"loss": "my.py:mine"}, {"loss": f"{mine}/my.py:mine"}),
        ({"class_names": "names.txt"}, {"class_names": mine / "names.txt"}),
        ({"strong": "open_clip:ViT-B-32/openai@b.pt"}, {"strong": f"open_clip:ViT-B-32/openai@{mine}/b.pt"}),
        ({"method": "cpl", "loss": None}, {"loss": "cpl"}),
        ({}, {"device": "cpu", "kernels": "torch", "compile": "never", "workers": 3, "extract_batch_size": 64}),
    ]
    for one, other in pairs:
        assert digest(**one) == digest(**dict(reversed(other.items()))), (one, other)


def test_unlike_questions_differ(mine: Path) -> None:
    asked: list[dict[str, Any]] = [
        {}, {"loss": "ce"}, {"loss": "kd(tau_w=2)"}, {"head": "prototype"}, {"supervision": "smooth"}, {"seeds": 2},
        {"split": "fixed"}, {"references": False}, {"settings": {"lr": 0.1}}, {"settings": {"lr": [0.1, 0.2]}},
        {"data": "drawn:real"}, {"data": ["drawn:real", "drawn:sketch"]}, {"identity": "path"}, {"drop_failed": True},
        {"data": ["drawn:real", "drawn:sketch"], "pool": True}, {"template": "a sketch of a {}"}, {"root": "pictures"},
        {"class_names": "names.txt"}, {"strong": "drawn:cnn/real-0"}, {"weak": "drawn:cnn/1"}, {"weak_seeds": 2},
        {"teachers": "drawn:cnn"}, {"compute": "bf16"}, {"stored": "f32"}, {"tf32": True}, {"random_weights": True},
        {"allow_mismatch": True}, {"precision": "fp64"}, {"stream": True}, {"stream": 512}, {"loss": "my.py:mine"},
    ]  # fmt: skip
    found = [digest(**one) for one in asked]
    assert len(set(found)) == len(asked), [one for one, d in zip(asked, found, strict=True) if found.count(d) > 1]
    (mine / "my.py").write_text(MINE.format(" * 2"))
    (mine / "names.txt").write_text("cat\nhound\n")
    assert digest(loss="my.py:mine") not in found and digest(class_names="names.txt") not in found


def test_every_option_tells_questions_apart_or_says_that_it_cannot(mine: Path) -> None:
    """A new option is part of the identity unless its field says otherwise."""
    told = Experiment.of({"loss": "kd"}).identity()
    plan = {"method", "loss", "head", "supervision", "seeds", "split", "references", "settings"}
    free = {"device", "kernels", "compile", "workers", "max_failures", "extract_batch_size"}
    assert set(Experiment.of({"loss": "kd"}).options()) == (set(told) - {"fits"}) | plan | free


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"sedes": 3}, "unknown key 'sedes'; did you mean 'seeds'"),
        ({"lr": 0.1}, "unknown key 'lr'"),
        ({"loss": None}, "nothing to fit"),
        ({"seeds": 0}, "no seeds"),
        ({"seeds": "4-2"}, "names no seed"),
        ({"weak_seeds": 0}, "--weak-seeds must be at least 1"),
        ({"weak_seeds": "2"}, "must be a whole number, not '2'"),
        ({"pool": 1}, "must be true or false, not 1"),
        ({"split": "rotated"}, "unknown split 'rotated'; did you mean 'rotate'"),
        ({"precision": "fp23"}, "unknown precision"),
        ({"kernels": "cuda"}, "unknown kernels"),
        ({"identity": "bytes"}, "unknown identity"),
        ({"template": "a photo"}, "exactly one {}"),
        ({"stored": "f8"}, "--stored 'f8' is unknown"),
        ({"settings": {"lr": -1}}, "lr must be a finite number above 0"),
        ({"settings": {"taus": 1}}, "unknown setting 'taus'"),
        ({"settings": 3}, "must be a table"),
        ({"supervision": "teachers"}, "takes one teacher"),
        ({"strong": "resnet18"}, "has no library prefix"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence_that_says_where(asked: dict[str, Any], words: str) -> None:
    for where in ("", COMMAND_LINE, "grid.toml"):
        with pytest.raises(UsageError) as told:
            Experiment.of({"loss": "kd", **asked}, where=where)
        assert words in str(told.value) and str(told.value).startswith(where if where == "grid.toml" else "")


def test_pythons_fit_takes_the_same_options_and_checker() -> None:
    task = w2s.Task.from_arrays(
        features=[[float(i % 2), 1.0 + i] for i in range(60)], weak_logits=[[3, -1], [-1, 2]] * 30, labels=[0, 1] * 30
    )
    found = w2s.fit(task, loss="kd", seeds="2", epochs=1, batch_size=8, kernels="torch", compile="never")
    assert {row["seed"] for row in found.rows} == {0, 1}
    with pytest.raises(UsageError, match="unknown compile 'alway'; did you mean 'always'"):
        w2s.fit(task, loss="kd", compile="alway")
    with pytest.raises(UsageError, match="references must be true or false"):
        w2s.fit(task, loss="kd", references=1)  # type: ignore[arg-type]


def test_an_experiment_is_written_and_read_back(mine: Path) -> None:
    asked = {
        "data": "drawn:s*", "loss": ["my.py:mine", "kd(tau_w=[1, 2])"], "seeds": [3, 5], "stream": True,
        "references": False, "template": ["a {}", "one {}"], "settings": {"lr": [0.1, 0.01], "init": "random"},
    }  # fmt: skip
    one = Experiment.of(asked)
    again = from_json(to_json(one))
    assert again.digest == one.digest and again.fits == one.fits and again.compute == one.compute
    path = mine / "again.toml"
    path.write_text(to_toml(one))
    assert read_sweep(path).digest == one.digest and f"# experiment {one.digest}" in path.read_text()
    assert "# kd+lp[kd(tau_w=2) @ linear][lr=0.01]: kd(" in path.read_text()
    assert keep(one, mine / "r.jsonl") == mine / "r.jsonl.experiments" / f"{one.digest}.json"
    assert kept(mine / "r.jsonl", one.digest).digest == one.digest
    with pytest.raises(DataError, match="is not kept"):
        kept(mine / "r.jsonl", "0" * 64)
    (mine / "r.jsonl.experiments" / f"{'1' * 64}.json").write_text(json.dumps({"format": 2, "asked": {}}))
    with pytest.raises(DataError, match="newer than 1"):
        kept(mine / "r.jsonl", "1" * 64)
    (mine / "r.jsonl.experiments" / f"{'2' * 64}.json").write_text("[]")
    with pytest.raises(DataError, match="is not an experiment"):
        kept(mine / "r.jsonl", "2" * 64)


def test_a_function_is_asked_for_and_not_written(tmp_path: Path) -> None:
    def own(z: Any, weak: Any, batch: Any) -> Any:
        return -(weak.probs * z.log_softmax(-1)).sum(-1)

    one = Experiment.of({"data": "drawn:sketch", "loss": own})
    assert one.digest != digest() and keep(one, tmp_path / "r.jsonl") is None
    with pytest.raises(UsageError, match=r"loss is a Python object .* name it: my.py:NAME"):
        to_json(one)


def test_options_given_anew_replace_those_of_an_experiment() -> None:
    one = Experiment.of({"data": "drawn:sketch", "method": ["cpl", "kd+lp"], "seeds": 3, "settings": {"lr": 0.1}})
    other = one.amended({"seeds": 1, "settings": {"epochs": 2}})
    assert (other.fits.method, other.fits.seeds) == (("cpl", "kd+lp"), (0,))
    assert other.fits.settings == {"lr": 0.1, "epochs": 2} and other.data == one.data
    assert one.amended({"loss": "ce"}).fits.method == () and one.amended({}).digest == one.digest

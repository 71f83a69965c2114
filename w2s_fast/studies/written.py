"""Experiments as text: TOML for people and for `w2s-fast sweep`, JSON beside the results that they gave."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2s_fast.core import rows
from w2s_fast.core.errors import DataError, UsageError
from w2s_fast.core.version import CODE
from w2s_fast.studies.experiment import Experiment

FORMAT = 1


def beside(results: str | Path) -> Path:
    """The folder beside a results file that holds its experiments, `DIGEST.json` each."""
    return Path(f"{results}.experiments")


def to_values(experiment: Experiment) -> dict[str, Any]:
    """Every option, defaults included, in types of JSON; `UsageError` for a loss that is a Python object."""
    return {name: _plain(name, value) for name, value in experiment.options().items() if value is not None}


def to_json(experiment: Experiment) -> str:
    """The experiment as a JSON document that `from_json` reads, with its digest and the version that asked it."""
    asked = {**to_values(experiment), "data": experiment.sets()}
    document = {"format": FORMAT, "digest": experiment.digest, "code": CODE, "asked": asked}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str, *, cache: str | Path | None = None, where: str = "experiment") -> Experiment:
    """The experiment of `to_json`; `DataError` for another document or a newer format."""
    try:
        found = json.loads(text)
        asked, version = found["asked"], int(found["format"])
    except (ValueError, TypeError, KeyError):
        raise DataError(f"{where} is not an experiment that was written down; ask again with: w2s-fast train") from None
    if version > FORMAT:
        raise DataError(f"{where}: format {version} is newer than {FORMAT}; update w2s-fast")
    return Experiment.of(asked, cache=cache, where=where)


def to_toml(experiment: Experiment) -> str:
    """What differs from the defaults, as a file for `w2s-fast sweep`; comments say what names were resolved to."""
    plain = to_values(Experiment.of({"loss": "ce"}))
    plain["loss"] = []
    given = {name: value for name, value in to_values(experiment).items() if plain.get(name) != value}
    settings = given.pop("settings", {})
    lines = [f"# experiment {experiment.digest}"]
    for method, chosen in experiment.plan.variants:
        told = ", ".join(f"{k}={v}" for k, v in vars(chosen).items() if v is not None)
        lines.append(f"# {method.name}: {method.loss_resolved} on {method.head}, {method.supervision}; {told}")
    lines += [f"{name} = {_toml(value)}" for name, value in given.items()]
    if settings:
        lines += ["", "[settings]", *(f"{k} = {_toml(v)}" for k, v in settings.items() if v is not None)]
    return "\n".join(lines) + "\n"


def keep(experiment: Experiment, results: str | Path) -> Path | None:
    """Write the experiment beside a results file, once; None for one that cannot be written (a loss of Python's)."""
    try:
        text = to_json(experiment)
    except UsageError:
        return None
    path = beside(results) / f"{experiment.digest}.json"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{experiment.digest}.{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)
        except OSError as error:
            why = error.strerror or error
            raise DataError(f"cannot write {path} ({why}); free space or change --out") from error
    return path


def kept(results: str | Path, digest: str, *, cache: str | Path | None = None) -> Experiment:
    """The experiment of that digest beside a results file; `DataError` where it is not kept, or is another by now."""
    path = beside(results) / f"{digest}.json"
    if Path(results).is_dir():
        path = next(iter(sorted(Path(results).glob(f"*.experiments/{digest}.json"))), path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise DataError(
            f"{results}: experiment {digest[:12]} is not kept in {path.parent}; keep that folder with the rows, "
            "or ask again with: w2s-fast train"
        ) from None
    return from_json(text, cache=cache, where=str(path))


def reopened(results: str | Path, *, row: str | None = None, cache: str | Path | None = None) -> dict[str, Experiment]:
    """Digest -> the experiment, of those that the rows of a results file name; `DataError` where none is named.

    row: the run_id of one run, or its beginning; then its experiment alone, on its data set, models and seed.
    """
    read = map(dict[str, Any], rows.read(results))
    found = [one for one in read if row is None or str(one.get("run_id", "")).startswith(row)]
    runs = {str(one.get("run_id")): one for one in found}
    if row is not None and len(runs) != 1:
        told = f"{len(runs)} runs, {', '.join(sorted(runs)[:4])}, ..." if runs else "no run"
        raise UsageError(f"--row {row}: {told} of {results} begin so; give one run_id")
    digests = dict.fromkeys(str(one["experiment"]) for one in found if one.get("experiment"))
    if not digests:
        raise DataError(f"{results}: its rows name no experiment (they are of an older version, or of Python's fit)")
    asked = {digest: kept(results, digest, cache=cache) for digest in digests}
    if row is None:
        return asked
    [one], [(digest, whole)] = runs.values(), asked.items()
    part: dict[str, Any] = {"seeds": [one["seed"]], "strong": [one["strong"]], "weak": [one["weak"]]}
    return {digest: whole.amended(part if whole.data.pool else {**part, "data": [one["data"]]})}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(name, one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}.{key}", one) for key, one in value.items()}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return _plain(name, value.tolist())
    if isinstance(value, range):
        return list(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(f"{name} is a Python object ({value!r}), which no file can hold; name it: my.py:NAME")


def _toml(value: Any) -> str:
    """A value as TOML writes it; strings of JSON are strings of TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)

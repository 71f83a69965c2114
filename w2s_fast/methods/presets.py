"""Named methods, as papers call them: which head, which loss, from where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from w2s_fast import heads, losses, supervisions
from w2s_fast.core.errors import SpecError, UsageError, nearest
from w2s_fast.core.fields import parameters
from w2s_fast.core.hashing import digest_json, number_repeats
from w2s_fast.core.plugins import load, names
from w2s_fast.core.specs import Spec, parse
from w2s_fast.methods import METHODS

WEAK, GT = Spec(name="weak"), Spec(name="gt")
HEAD_ALIASES = {"linear": "lp", "prototype": "proto", "prompt": "tp"}


@dataclass(frozen=True, kw_only=True)
class Method:
    """A head and a loss under one name; `source` is the paper, `verified` false if its formula could not be checked.

    settings: what `train.settings.Settings` shall be unless the user says otherwise, such as a paper's optimiser.
    supervision: who teaches (supervisions).
    """

    name: str
    head: Spec
    loss: Spec | Callable[..., Any]
    source: str = ""
    verified: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any], hash=False)
    supervision: Spec = WEAK

    @property
    def loss_name(self) -> str:
        """The loss as rows write it: its spec, or the name of the function or class."""
        return str(self.loss) if isinstance(self.loss, Spec) else given_name(self.loss)

    @property
    def loss_resolved(self) -> str:
        """The loss with every parameter that it has, defaults included."""
        if not isinstance(self.loss, Spec):
            return self.loss_name
        return str(Spec(name=self.loss.name, args={**parameters(losses.find(self.loss.name)), **self.loss.args}))

    @property
    def loss_class(self) -> Any:
        """The class of the loss, with its `equation` and `verified`; a function has that of all functions."""
        return losses.find(self.loss.name) if isinstance(self.loss, Spec) else type(losses.make(self.loss))

    @property
    def loss_identity(self) -> str:
        """What tells this loss from another of the same name: the spec, or a digest of the function's code."""
        return str(self.loss) if isinstance(self.loss, Spec) else f"{self.loss_name} {digest_of(self.loss)}"

    def canonical(self) -> Method:
        """This method with specs that leave out what equals its default, so that equal methods compare equal."""
        loss = self.loss
        if isinstance(loss, Spec):
            defaults = parameters(losses.find(loss.name))
            losses.make(loss)
            loss = Spec(name=loss.name, args={k: v for k, v in loss.args.items() if defaults.get(k, ...) != v})
        supervision = supervisions.canonical(self.supervision)
        return replace(self, head=heads.make(self.head).spec(), loss=loss, supervision=supervision)

    def expand(self) -> list[Method]:
        """One method per point of the grids that list-valued parameters of head, loss and supervision span."""
        given = self.loss.expand() if isinstance(self.loss, Spec) else [self.loss]
        return [
            replace(self, head=head, loss=loss, supervision=supervision)
            for head in self.head.expand()
            for loss in given
            for supervision in self.supervision.expand()
        ]


def _method(name: str, head: str, loss: str, source: str, **settings: Any) -> Method:
    return Method(name=name, head=parse(head), loss=parse(loss), source=source, settings=settings)


_CPL = "Li et al. 2025, class prototype learning (arXiv 2511.18396)"
_BURNS = "Burns et al. 2023, weak-to-strong generalization (arXiv 2312.09390)"
_ADAPT = "Guo et al. 2024, vision superalignment (arXiv 2402.03749)"
_COOP = "Zhou et al. 2022, CoOp (arXiv 2109.01134)"

CPL = _method("cpl", "prototype(init='text')", "cpl", _CPL)
CE_LP = _method("ce+lp", "linear", "ce", _BURNS)
KD_LP = _method("kd+lp", "linear", "kd", "Hinton et al. 2015, knowledge distillation (arXiv 1503.02531)")
AUX_LP = _method("aux+lp", "linear", "aux_conf", _BURNS)
AUX_ARGMAX_LP = _method("aux_argmax+lp", "linear", "aux_conf_argmax", _ADAPT + ", Eq. 1")
ADAPT_LP = _method("adapt+lp", "linear", "adapt_conf", _ADAPT + ", Eq. 2")
CE_PROTO = _method("ce+proto", "prototype(init='text')", "ce", "control: CPL's head, hard labels")
AUX_PROTO = _method("aux+proto", "prototype(init='text')", "aux_conf", "control: CPL's head, auxiliary confidence")
ADAPT_PROTO = _method("adapt+proto", "prototype(init='text')", "adapt_conf", "control: CPL's head, adaptive confidence")
CE_TP = _method("ce+tp", "prompt", "ce", _BURNS + "; text prompts of " + _COOP)
KD_TP = _method("kd+tp", "prompt", "kd", "Hinton et al. 2015, on text prompts of " + _COOP)
AUX_TP = _method("aux+tp", "prompt", "aux_conf", _BURNS + "; text prompts of " + _COOP)
AUX_ARGMAX_TP = _method("aux_argmax+tp", "prompt", "aux_conf_argmax", _ADAPT + ", Eq. 1; text prompts of " + _COOP)
ADAPT_TP = _method("adapt+tp", "prompt", "adapt_conf", _ADAPT + ", Eq. 2; text prompts of " + _COOP)
TP_COOP = _method(
    "tp_coop",
    "prompt(tail='.')",
    "ce",
    _COOP
    + ", its optimiser, schedule and epochs; on cached features, so without its augmentation, and the first epoch "
    "rises linearly where theirs stays at 1e-5",
    solver="sgd",
    schedule="cosine(warmup=0.02)",
    lr=2e-3,
    weight_decay=5e-4,
    epochs=50,
    batch_size=32,
)
TP_CPL = _method("tp_cpl", "prompt", "kd", _CPL + ", KD+TP under its common recipe (Adam, lr 1e-2)", lr=1e-2)


def find(name: str) -> Method:
    """The method of that name, or a `UsageError` with the nearest names."""
    known = names(METHODS, "w2s_fast.methods")
    if name not in known:
        raise UsageError(f"unknown method {name!r} (or give your own: --loss L --head H){nearest(name, known)}")
    return load(METHODS, "w2s_fast.methods", name)


def describe() -> list[dict[str, Any]]:
    """Every method: name, head, loss, the settings it brings, equation, source.

    Verified, if its formula could be checked and so could its loss's.
    """
    found = [find(name) for name in names(METHODS, "w2s_fast.methods")]
    return [
        {
            "method": m.name,
            "head": str(m.head),
            "loss": m.loss_name,
            "supervision": str(m.supervision),
            "settings": dict(m.settings),
            "equation": f"{m.loss_class.equation}; {heads.find(m.head.name).equation}",
            "source": m.source,
            "verified": m.verified and m.loss_class.verified and supervisions.find(m.supervision.name).verified,
        }
        for m in found
    ]


def unverified(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Methods of result rows whose preset, loss or head has a formula that could not be checked against its source."""
    given = [dict(row) for row in rows]
    doubtful = {r["method"] for r in describe() if not r["verified"]} & {row.get("method") for row in given}
    keys = ("method", "loss", "head", "supervision")
    for name, loss, head, supervision in {tuple(str(r.get(key, "weak")) for key in keys) for r in given}:
        try:
            checked = (
                losses.find(parse(loss).name).verified
                and heads.find(parse(head).name).verified
                and supervisions.find(parse(supervision).name).verified
            )
        except SpecError:
            continue  # one's own function, or a package that is not installed here
        doubtful |= set() if checked else {name}
    return sorted(doubtful)


def resolve(
    method: str | Sequence[str] | None = None,
    loss: str | losses.Loss | Callable[..., Any] | Sequence[Any] | None = None,
    head: str | Sequence[str] | None = None,
    supervision: str | Spec | Sequence[str | Spec] | None = None,
) -> list[Method]:
    """Methods named by `method`, then every loss x head given; each under every supervision given, else its own.

    Grids are expanded, repetitions dropped. A loss without a head takes its own default head (`cpl`: the
    text-initialised prototype), else `linear`. Nothing named is a `UsageError`, and so is another supervision for a
    method that is named after its own.
    """
    found = [find(name) for name in _several(method)]
    for one in _several(loss):
        found.extend(_combine(one, _several(head)))
    if _several(head) and not _several(loss):
        raise UsageError(f"--head {_several(head)[0]} needs a loss: add --loss kd (all: w2s-fast losses)")
    if not found:
        raise UsageError("nothing to fit: give --method cpl kd+lp ... or --loss cpl (all: w2s-fast methods)")
    student = [variant for one in found for variant in _under(one, _several(supervision))]
    expanded = [variant.canonical() for one in student for variant in one.expand()]
    unique = {
        (m.name, str(m.head), m.loss if not isinstance(m.loss, Spec) else str(m.loss), m.supervision): m
        for m in expanded
    }
    return _distinct_names(list(unique.values()))


def _under(method: Method, given_supervisions: Sequence[str | Spec]) -> list[Method]:
    """The method under each supervision, named after it unless that is plain; as it is where none is given.

    Ground truth alone needs no telling: tables label it.
    """
    given = [point for one in given_supervisions for point in parse(one).expand()]
    for one in given:
        supervisions.find(one.name)
        if method.supervision not in (WEAK, one):
            raise UsageError(
                f"{method.name} has its own supervision {method.supervision}; for {one} give its head and its loss: "
                f"--loss '{method.loss_name}' --head '{method.head}'"
            )
    return [
        replace(method, supervision=one, name=method.name if one == WEAK or given == [GT] else f"{method.name}[{one}]")
        for one in given
    ] or [method]


def _combine(loss: Any, heads: list[Any]) -> list[Method]:
    if isinstance(loss, str) and re.fullmatch(r".+\.py:\w+", loss):
        loss = from_file(loss)
    if not isinstance(loss, str | Spec):
        name = getattr(loss, "__name__", type(loss).__name__)
        chosen = [parse(h) for h in heads] or [parse("linear")]
        return [Method(name=f"{name}+{short(h)}", head=h, loss=loss) for h in chosen]
    spec = parse(loss)
    if spec.name == "cpl":
        wrong = next((h for h in heads if parse(h).name != "prototype"), None)
        if wrong is not None:
            raise SpecError(f"cpl is a prototype method; for the same loss on another head: --loss kd --head {wrong}")
        return [replace(CPL, loss=spec, head=parse(h)) for h in heads] or [replace(CPL, loss=spec)]
    default = losses.find(spec.name).default_head or "linear"
    chosen = [parse(h) for h in heads] or [parse(default)]
    return [Method(name=f"{spec.name}+{short(h)}", head=h, loss=spec) for h in chosen]


def from_file(text: str) -> Any:
    """The function or `Loss` that `path/to/file.py:name` names; the file is run, as any script of yours would be."""
    path, _, name = text.rpartition(":")
    if not Path(path).is_file():
        raise UsageError(f"--loss {text}: there is no file {path}")
    module_spec = spec_from_file_location(Path(path).stem, path)
    if module_spec is None or module_spec.loader is None:
        raise UsageError(f"--loss {text}: {path} is not a Python file")
    module = module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # whatever a file of the user's own may raise
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise UsageError(f"--loss {text}: {path}{line} does not run ({type(error).__name__}: {reason})") from error
    if not hasattr(module, name):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"--loss {text}: {path} has no function {name!r}{nearest(name, known)}")
    found = getattr(module, name)
    if isinstance(found, type) and issubclass(found, losses.Loss):
        needed = [key for key, default in parameters(found).items() if default == "..."]
        if needed:
            raise UsageError(f"--loss {text}: {name} needs {needed[0]}; name an object instead: mine = {name}(...)")
        return found()
    if not callable(found) and not isinstance(found, losses.Loss):
        raise UsageError(f"--loss {text}: {name!r} in {path} is no function but of type {type(found).__name__}")
    return found


def short(head: Spec) -> str:
    """The head as method names write it: lp, proto, or its own name."""
    return HEAD_ALIASES.get(head.name, head.name)


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _distinct_names(methods: list[Method]) -> list[Method]:
    """Variants of one name get their arguments into the name, so that no two rows share one."""
    names_given = [m.name for m in methods]
    told = [m.name if names_given.count(m.name) == 1 else f"{m.name}[{_told(m)}]" for m in methods]
    numbered = number_repeats(told)
    return [replace(m, name=name) for m, name in zip(methods, numbered, strict=True)]


def _told(method: Method) -> str:
    """What tells a method from others of its name."""
    plain = method.supervision in (WEAK, GT) or f"[{method.supervision}]" in method.name
    return f"{method.loss_name} @ {method.head}" + ("" if plain else f", {method.supervision}")


def given_name(loss: Any) -> str:
    """The name of a loss given as an object: a function's own, or its class's with the fields that are set."""
    if is_dataclass(loss) and not isinstance(loss, type):
        fields_set = {f.name: getattr(loss, f.name) for f in fields(loss) if getattr(loss, f.name) != f.default}
        return str(Spec(name=type(loss).__name__, args=fields_set)) if fields_set else type(loss).__name__
    return getattr(loss, "__name__", type(loss).__name__)


def digest_of(loss: Any) -> str:
    """12 hex digits over a function's code, constants and closure, or over an object's class and fields."""
    code = getattr(loss, "__code__", None)
    if code is None:
        return digest_json([type(loss).__module__, type(loss).__qualname__, given_name(loss)])[:12]
    closure = [repr(cell.cell_contents) for cell in getattr(loss, "__closure__", None) or ()]
    constants = [repr(c) for c in code.co_consts if not hasattr(c, "co_code")]
    parts = [code.co_code.hex(), constants, list(code.co_names), closure, repr(getattr(loss, "__defaults__", None))]
    return digest_json(parts)[:12]

"""The models that ship with the package: `drawn:clip`, and the supervisors of each drawn domain.

On its own domain a supervisor is `drawn:cnn/SEED`; as an encoder of any data set, `drawn:cnn/DOMAIN-SEED`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from w2s_fast.backbones import Library, ModelName, Options
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.backbones.loading import seeded
from w2s_fast.backbones.preprocess import Transform, of_drawn
from w2s_fast.core.errors import ModelError, UsageError, nearest

ASSETS = Path(__file__).parent.parent / "assets"
CLIP, CNN, CARDS = "drawn_clip", "drawn_cnn", "cards.json"


def open_named(model: ModelName, options: Options) -> FrozenEncoder:
    """Open `drawn:clip`, `drawn:cnn/DOMAIN-SEED`, or `drawn:cnn/SEED` for one drawn domain (no seed: the first)."""
    if model.name == "clip":
        if model.pretrained is not None:
            raise UsageError(f"{model}: drawn:clip has one set of weights; leave out /{model.pretrained}")
        from w2s_fast.backbones.open_clip import open_folder

        return open_folder(model, _folder(CLIP), options)
    if model.name == "cnn":
        return _cnn(model, options)
    raise ModelError(f"drawn has no model {model.name!r}{nearest(model.name, ['clip', 'cnn'])}")


def shipped_seeds(data: str) -> tuple[int, ...]:
    """The weak seeds of the supervisors that ship for `drawn:DOMAIN`; () for other data."""
    domain = data.removeprefix("drawn:")
    cards = _cards() if data.startswith("drawn:") and (ASSETS / CNN / CARDS).is_file() else {}
    return tuple(sorted(int(c["seed"]) for c in cards.values() if c["data"] == f"drawn:{domain}"))


def of_domain(model: ModelName) -> tuple[str, str] | None:
    """(domain, seed) of `drawn:cnn/DOMAIN-SEED`, which names one network whatever the data; None for other names."""
    if (model.library, model.name) != ("drawn", "cnn") or "-" not in (model.pretrained or ""):
        return None
    domain, _, seed = (model.pretrained or "").rpartition("-")
    return domain, seed


def shipped_card(data: str, seed: int) -> dict[str, Any]:
    """The card of the supervisor `drawn:cnn/SEED` of `drawn:DOMAIN`; KeyError if it does not ship."""
    return _cards()[f"{data.removeprefix('drawn:')}-{seed}"]


def _cnn(model: ModelName, options: Options) -> FrozenEncoder:
    from w2s_fast.backbones.loading import read_state
    from w2s_fast.backbones.weak import of_state

    named = of_domain(model)
    data, seed = (options.data, model.pretrained) if named is None else (f"drawn:{named[0]}", named[1])
    if data is None:
        raise UsageError(f"{model} is a supervisor of one drawn domain; give it with --data drawn:DOMAIN")
    seeds = shipped_seeds(data)
    if named is not None and not seeds:
        domains = sorted({str(card["data"]).removeprefix("drawn:") for card in _cards().values()})
        raise ModelError(f"{model}: there is no drawn domain {named[0]!r}{nearest(named[0], domains)}")
    if seed is None:
        seed = str(seeds[0]) if seeds else "0"
    if not seed.isdecimal():
        raise UsageError(f"{str(model)!r}: the weak seed {seed!r} is not a number; write drawn:cnn/SEED")
    if int(seed) not in seeds:
        why = f"ships with seeds {', '.join(map(str, seeds))}" if seeds else "ships for the drawn domains only"
        raise ModelError(
            f"drawn:cnn/{seed} for {data}: it {why}; train one with: w2s-fast weak --data {data} --model drawn:cnn "
            f"--name cnn --seeds {int(seed) + 1}, and name it weak:cnn/{seed}"
        )
    stem = f"{data.removeprefix('drawn:')}-{int(seed)}"
    path = _folder(CNN) / f"{stem}.safetensors"
    return of_state(read_state(path), _cards()[stem], path, name=str(model), device=options.device)


def _folder(name: str) -> Path:
    folder = ASSETS / name
    if not folder.is_dir():
        raise ModelError(f"the embedded model folder {folder} is missing; install the package again")
    return folder


def _cards() -> dict[str, dict[str, Any]]:
    path = _folder(CNN) / CARDS
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ModelError(f"{path} cannot be read; install the package again") from None


def student(
    name: ModelName, num_classes: int, *, seed: int, pretrained: bool
) -> tuple[nn.Module, dict[str, Any], Callable[[Any], Tensor]]:
    """The small CNN drawn from `seed`; nothing pretrained is had. See `students.new_module`."""
    from w2s_fast.backbones.drawn_cnn import IMAGE_SIZE, MEAN, STD, DrawnCNN

    if name.name != "cnn":
        raise UsageError(f"{str(name)!r} cannot be trained as a supervisor; of the embedded models drawn:cnn can")
    with seeded(seed):
        module = DrawnCNN(num_classes)
    described = of_drawn(IMAGE_SIZE, MEAN, STD)
    return module, described, Transform(described)


def trained(module: nn.Module, model: ModelName, options: Options, **fields: Any) -> FrozenEncoder:
    """The encoder of a small CNN that `student` made and somebody trained."""
    from w2s_fast.backbones.torchvision import encoder_of

    return encoder_of(module, model, options, **fields)


def _names(pattern: str) -> Iterator[tuple[str, str]]:
    known = {
        "clip": "embedded CLIP of the drawn world",
        "cnn": "embedded weak supervisors, five seeds for each drawn domain",
    }
    return ((name, what) for name, what in known.items() if pattern.lower() in f"drawn:{name}")


LIBRARY = Library(
    open=open_named,
    text=lambda model: model.name != "cnn",
    names=_names,
    supervises=lambda model: model.name == "cnn" and of_domain(model) is None,
    student=student,
    trained=trained,
)

"""Making modules without side effects, and getting weights without a network's tantrums or anyone's pickle."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
import urllib.error
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from w2s_fast.backbones import ModelName
from w2s_fast.core.errors import ModelError, W2SError

CONNECT_SECONDS = 4.0
READ_SECONDS = 30.0
LEAST_FIT = 0.95
"""The least share of an architecture's numbers that weights must fill where a mismatch is allowed."""
_WRAPPERS = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "state_dict", "model_state_dict", "model", "net")
"""Entries that checkpoints keep a state dict under; an average over training steps goes before the last step."""
_PREFIXES = ("module.", "_orig_mod.", "ema_model.", "model_ema.", "net.", "model.", "network.", "backbone.", "encoder.")
"""What DataParallel, torch.compile, Lightning modules and the like put before every name."""
_COUNTER = ".num_batches_tracked"
"""A count that no evaluation reads; older releases did not save it."""


@contextlib.contextmanager
def seeded(text: str | int) -> Iterator[None]:
    """Within it, torch draws from a generator seeded by `text`; the caller's global generator is left as it was."""
    seed = text if isinstance(text, int) else int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep libraries from logging (and from installing a root handler): what matters becomes an error here."""
    root, null = logging.getLogger(), logging.NullHandler()
    before = logging.root.manager.disable
    root.addHandler(null)
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
        root.removeHandler(null)


@contextlib.contextmanager
def fetching(model: str, *, host: str | None = None, fix: str) -> Iterator[None]:
    """Within it, a fetch that fails is one `ModelError` that says `fix`; `host` defaults to the Hugging Face hub.

    A host that does not answer within a few seconds puts the hub's client into its offline mode for the duration, so
    that cached files still load and missing ones fail at once rather than after its retries.
    """
    import huggingface_hub.constants as hub

    target = host or urlsplit(hub.ENDPOINT).hostname or ""
    offline, timeout = hub.HF_HUB_OFFLINE, socket.getdefaulttimeout()
    reached = _answers(target)
    hub.HF_HUB_OFFLINE = offline or (host is None and not reached)
    socket.setdefaulttimeout(READ_SECONDS if reached else CONNECT_SECONDS)
    try:
        # torch.hub announces downloads on stdout, where the CLI's data go.
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            yield
    except W2SError:
        raise
    except Exception as error:
        if not _is_fetch_error(error):
            raise
        why = f"{target} does not answer" if not reached else f"{type(error).__name__} from {target}"
        raise ModelError(f"the weights of {model} are not here and cannot be fetched ({why}); {fix}") from None
    finally:
        hub.HF_HUB_OFFLINE = offline
        socket.setdefaulttimeout(timeout)


def read_state(path: Path, *, own: Iterable[str] = ()) -> dict[str, Tensor]:
    """A state dict from safetensors or `torch.load(weights_only=True)`, without what training tools wrap around it.

    Nested entries such as `state_dict` and prefixes of all names such as `module.` are taken off, for every library
    alike; `own` are the names of the module to be filled, whose own first part is no prefix.
    """
    if not path.is_file():
        raise ModelError(f"the weight file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        why = str(error).strip().split("\n")[0][:160]
        if type(error).__name__ == "SafetensorError":
            raise ModelError(f"the weight file {path} is damaged ({why}); copy or train it again") from None
        raise ModelError(
            f"the weight file {path} cannot be read as plain tensors ({why}); save its state dict as safetensors"
        ) from None
    while isinstance(found, dict):
        inner = next((found[k] for k in _WRAPPERS if isinstance(found.get(k), dict) and found[k]), None)
        if inner is None:
            break
        found = inner
    if not isinstance(found, dict) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise ModelError(f"the weight file {path} holds no state dict; save one as safetensors")
    return unprefixed({str(k): v for k, v in found.items()}, own=own)


def unprefixed(state: dict[str, Tensor], *, own: Iterable[str] = ()) -> dict[str, Tensor]:
    """The state dict without prefixes that all its names share, or that all names of the module to be filled have.

    An average of the weights beside them stays: which of the two is meant is for the reader of the error to say.
    """
    wanted = set(own)
    while state:
        # averages count their updates beside the weights
        names = [k for k in state if k not in ("n_averaged", "num_updates", "decay")]
        known = [p for p in _PREFIXES if not any(k.startswith(p) for k in wanted)]
        shared = next((p for p in known if names and all(k.startswith(p) for k in names)), None)
        if shared is None:
            return _among(state, wanted, known)
        state = {k.removeprefix(shared): state[k] for k in names}
    return state


def _among(state: dict[str, Tensor], wanted: set[str], known: list[str]) -> dict[str, Tensor]:
    """The one prefixed part that fills the module, where a checkpoint holds a loss or a second head beside it."""
    wanted = {k for k in wanted if not k.endswith(_COUNTER)}
    whole = [p for p in known if wanted and all(p + k in state for k in wanted)]
    if len(whole) != 1:
        return state
    return {k.removeprefix(whole[0]): v for k, v in state.items() if k.startswith(whole[0])}


def load_strictly(module: torch.nn.Module, state: dict[str, Tensor], *, model: str, allow: bool = False) -> list[str]:
    """Load a state dict; missing, unexpected or misshapen keys are a `ModelError`, or returned in words if `allow`.

    Also then at least `LEAST_FIT` of the module's numbers must be filled: less is another architecture.
    """
    own = module.state_dict()
    bad = [f"{k} has shape {tuple(state[k].shape)}, not {tuple(own[k].shape)}" for k in own.keys() & state.keys()
           if own[k].shape != state[k].shape]  # fmt: skip
    missing = sorted(k for k in own.keys() - state.keys() if not k.endswith(_COUNTER))
    unexpected = sorted(state.keys() - own.keys())
    found = [*sorted(bad), *(f"{k} is missing" for k in missing), *(f"{k} is unexpected" for k in unexpected)]
    if found and not allow:
        raise mismatch(model, found)
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    filled, all_of = sum(own[k].numel() for k in fits), sum(v.numel() for v in own.values())
    if found and filled < LEAST_FIT * all_of:
        raise ModelError(
            f"the weights of {model} fill {filled:,} of {all_of:,} numbers of the architecture "
            f"({100 * filled / all_of:.0f} %), and --allow-mismatch asks for {100 * LEAST_FIT:.0f} %; the first: "
            f"{'; '.join(found[:3])}; name the architecture that they are of"
        )
    module.load_state_dict(fits, strict=False)
    return found


def load_body(module: torch.nn.Module, name: ModelName, heads: tuple[str, ...]) -> None:
    """Load the file of `NAME/TAG@FILE` but for the tensors under `heads` (prefixes), which stay as they are."""
    assert name.file is not None
    state = read_state(name.file, own=module.state_dict())
    state = {k: v for k, v in state.items() if not k.startswith(heads)}
    own = {k: v for k, v in module.state_dict().items() if k.startswith(heads)}
    load_strictly(module, {**state, **own}, model=str(name))


def revision_of(file: Path) -> Path | None:
    """Where the hub's client keeps which revision is current, for a file in its cache; None for any other file."""
    snapshots = file.parent.parent
    found = snapshots.parent / "refs" / "main"
    return found if snapshots.name == "snapshots" and found.is_file() else None


def mismatch(model: str, found: list[str]) -> ModelError:
    """The error for weights that do not match the architecture."""
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return ModelError(
        f"the weights of {model} do not match the architecture: {'; '.join(found[:3])}{more}; name the right "
        f"architecture, or accept this with --allow-mismatch"
    )


def _answers(host: str) -> bool:
    if any(os.environ.get(k) or os.environ.get(k.upper()) for k in ("https_proxy", "http_proxy", "all_proxy")):
        return True  # only the proxy knows
    try:
        socket.create_connection((host, 443), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _is_fetch_error(error: BaseException) -> bool:
    chain: list[BaseException] = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 8:
        chain.append(inner)
    homes = ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub")
    return any(
        isinstance(e, urllib.error.URLError | ConnectionError | TimeoutError)
        or any(c.__module__.split(".")[0] in homes for c in type(e).__mro__)
        for e in chain
    )

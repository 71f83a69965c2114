"""Making modules without side effects, and getting weights without a network's tantrums or anyone's pickle."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from w2s_fast.backbones import ModelName
from w2s_fast.core.errors import ModelError, W2SError

CONNECT_SECONDS = 4.0
READ_SECONDS = 30.0
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")


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
def fetching(model: str, *, host: str | None = None, mend: str) -> Iterator[None]:
    """Within it, a fetch that fails is one `ModelError` that says `mend`; `host` defaults to the Hugging Face hub.

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
        raise ModelError(f"the weights of {model} are not here and cannot be fetched ({why}); {mend}") from None
    finally:
        hub.HF_HUB_OFFLINE = offline
        socket.setdefaulttimeout(timeout)


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or `torch.load(weights_only=True)`, without wrappers and `module.` prefixes."""
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
        raise ModelError(
            f"the weight file {path} cannot be read as plain tensors ({why}); save its state dict as safetensors"
        ) from None
    for key in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise ModelError(f"the weight file {path} holds no state dict; save one as safetensors")
    for prefix in _PREFIXES:
        if all(str(k).startswith(prefix) for k in found):
            found = {str(k)[len(prefix) :]: v for k, v in found.items()}
    return found


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes in a weight file by name; of safetensors only the header is read."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {name: tuple(value.shape) for name, value in read_state(path).items()}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"the weight file {path} is damaged ({error}); copy or train it again") from None


def load_strictly(module: torch.nn.Module, state: dict[str, Tensor], *, model: str, allow: bool = False) -> list[str]:
    """Load a state dict; missing, unexpected or misshapen keys are a `ModelError`, or returned in words if `allow`."""
    own = module.state_dict()
    bad = [f"{k} has shape {tuple(state[k].shape)}, not {tuple(own[k].shape)}" for k in own.keys() & state.keys()
           if own[k].shape != state[k].shape]  # fmt: skip
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    found = [*sorted(bad), *(f"{k} is missing" for k in missing), *(f"{k} is unexpected" for k in unexpected)]
    if found and not allow:
        raise mismatch(model, found)
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    module.load_state_dict(fits, strict=False)
    return found


def load_body(module: torch.nn.Module, name: ModelName, heads: tuple[str, ...]) -> None:
    """Load the file of `NAME/@FILE` but for the tensors under `heads` (prefixes), which stay as they are."""
    assert name.file is not None
    state = {k: v for k, v in read_state(name.file).items() if not k.startswith(heads)}
    own = {k: v for k, v in module.state_dict().items() if k.startswith(heads)}
    load_strictly(module, {**state, **own}, model=str(name))


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

"""`local:FOLDER`: a checkpoint folder, by the configuration file that lies in it."""

from __future__ import annotations

from pathlib import Path

from w2s_fast.backbones import Library, ModelName, Options
from w2s_fast.backbones.encoder import FrozenEncoder
from w2s_fast.core.errors import ModelError


def open_named(model: ModelName, options: Options) -> FrozenEncoder:
    """Open a folder with `open_clip_config.json` (open_clip), or a `config.json` that names an architecture (timm)."""
    folder = Path(model.name).expanduser()
    if not folder.is_dir():
        what = (
            "is a file; write open_clip:ARCH/TAG@FILE or timm:ARCH.TAG/@FILE" if folder.is_file() else "does not exist"
        )
        raise ModelError(f"{model}: the folder {folder} {what}")
    if (folder / "open_clip_config.json").is_file():
        from w2s_fast.backbones.open_clip import open_folder

        return open_folder(model, folder.absolute(), options)
    if (folder / "config.json").is_file():
        from w2s_fast.backbones.timm import open_folder

        return open_folder(model, folder.absolute(), options)
    raise ModelError(f"{model}: {folder} holds neither open_clip_config.json (open_clip) nor config.json (timm)")


LIBRARY = Library(open=open_named, folder=True)

"""w2s-fast extract: fill the cache."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from w2s_fast.extract.options import ExtractOptions
from w2s_fast.tasks.options import DataOptions
from w2s_fast_cli import options as o
from w2s_fast_cli.asking import asks
from w2s_fast_cli.launching import AtOnce, Launcher, Parts, RayAddress, extracted
from w2s_fast_cli.output import DONE_IN_PART, Output

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@asks(
    DataOptions,
    ExtractOptions,
    but=("pool", "drop_failed", "drop_repeats"),
    flags={"extract_batch_size": "--batch-size"},
)
def extract(
    asked: dict[str, Any],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Model: open_clip:ARCH/TAG, timm:NAME, local:DIR, weak:NAME; may repeat."),
    ] = None,
    launcher: Launcher = "local",
    parts: Parts = None,
    at_once: AtOnce = None,
    ray_address: RayAddress = None,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run each frozen model once over the images and keep features and logits; resumes where it was stopped.

    Without --data and --model: the embedded drawn domains, their CLIP and their weak supervisors.

    Example: w2s-fast extract --data imagefolder:photos --model open_clip:ViT-B-32/openai --model timm:resnet18.a1_in1k
    """
    from w2s_fast.core.options import COMMAND_LINE, read_options
    from w2s_fast.tasks.extraction import extract_all
    from w2s_fast.tasks.options import model_names

    out = Output(json=json, quiet=quiet)
    read = read_options(asked, (DataOptions, ExtractOptions), where=COMMAND_LINE)
    data = read[DataOptions]
    models = model_names(model) if model else None
    reading = {"root": data.root, "identity": data.identity, "class_names": data.class_names}
    reading = {key: None if value is None else str(value) for key, value in reading.items()}
    unit = {"data": data.names, "models": models, "options": asdict(read[ExtractOptions])}
    unit["reading"] = {**reading, "templates": data.templates}
    if extracted(out, unit, launcher=launcher, parts=parts, at_once=at_once, address=ray_address, cache=cache):
        return
    failed = 0
    with out.stoppable("finished parts are kept; the same command resumes"), out.progress("images") as progress:
        for record in extract_all(
            data.names,
            models,
            options=read[ExtractOptions],
            root=data.root,
            identity=data.identity,
            class_names=data.class_names,
            templates=data.templates,
            cache=cache,
            say=out.say,
            on_progress=progress,
        ):
            failed += record["failures"]
            if json:
                out.lines([record])
            else:
                out.say(_sentence(record))
    if failed:
        out.say(
            f"{failed} images could not be read; `w2s-fast train` asks for --drop-failed (see: w2s-fast cache info KEY)"
        )
        raise typer.Exit(DONE_IN_PART)


def _sentence(record: dict) -> str:
    speed = f" at {record['images_per_second']:,.0f} images/s" if record["images_per_second"] else ""
    what = f"{record['made_parts']} parts made{speed}" if record["made_parts"] else "already complete"
    return f"{record['data']} x {record['model']}: {record['rows']:,} rows, {what} [{record['key'][:12]}]"

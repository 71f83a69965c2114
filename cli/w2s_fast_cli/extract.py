"""w2s-fast extract: fill the cache."""

from __future__ import annotations

from typing import Annotated

import typer

from w2s_fast_cli import options as o
from w2s_fast_cli.output import DONE_IN_PART, Output

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def extract(
    data: o.Data = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Model: open_clip:ARCH/TAG, timm:NAME, local:DIR, weak:NAME; may repeat."),
    ] = None,
    class_names: o.ClassNames = None,
    template: o.Template = None,
    root: o.Root = None,
    identity: o.Identity = "content",
    compute: o.Compute = o.ComputeIn.fp32,
    stored: o.Stored = o.StoredIn.f16,
    tf32: Annotated[bool, typer.Option("--tf32", help="Allow TF32 on CUDA; enters the cache key.")] = False,
    batch_size: o.BatchSize = 256,
    workers: o.Workers = None,
    device: o.Device = "auto",
    max_failures: Annotated[int | None, typer.Option(help="Give up after so many unreadable images.")] = None,
    random_weights: o.RandomWeights = False,
    allow_mismatch: o.AllowMismatch = False,
    cache: o.Cache = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Run each frozen model once over the images and keep features and logits; resumes where it was stopped.

    Without --data and --model: the embedded drawn domains, their CLIP and their weak supervisors.

    Example: w2s-fast extract --data imagefolder:photos --model open_clip:ViT-B-32/openai --model timm:resnet18.a1_in1k
    """
    from w2s_fast.extract.options import ExtractOptions
    from w2s_fast.tasks.extraction import extract_all

    out = Output(json=json, quiet=quiet)
    chosen = ExtractOptions(
        compute=compute.value,
        stored=stored.value,
        tf32=tf32,
        random_weights=random_weights,
        allow_mismatch=allow_mismatch,
        device=device,
        batch_size=batch_size,
        workers=workers,
        max_failures=max_failures,
    )
    failed = 0
    with out.stoppable("finished parts are kept; the same command resumes"), out.progress("images") as progress:
        for record in extract_all(
            data,
            model,
            options=chosen,
            root=root,
            identity=identity,
            class_names=class_names,
            templates=template,
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

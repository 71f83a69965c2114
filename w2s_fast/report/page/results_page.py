"""Results as one page: summary, picture, every run, gallery, diagnostics, and where each number comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from w2s_fast.core.errors import DataError
from w2s_fast.diagnose.diagnosis import Diagnosis
from w2s_fast.report import tables as writing
from w2s_fast.report.page import columns
from w2s_fast.report.page.document import document, text
from w2s_fast.report.page.gallery import Pair, gallery
from w2s_fast.report.page.sections import (
    drawn_table,
    facts,
    folded,
    notes,
    section,
    summary_table,
    svg_figure,
    to_copy,
)
from w2s_fast.report.picture import to_svg
from w2s_fast.results.results import Results
from w2s_fast.results.summary import Table, wide

RUN_COLUMNS = (
    "domain", "strong", "weak", "method", "supervision", "seed", "weak_seed", "selection", "acc_weak", "acc_w2s",
    "acc_ceiling", "pgr", "agreement", "agree_right", "agree_wrong", "acc_zero_shot", "lr", "epochs", "tau_s", "tau_w",
    "selected_epoch", "seconds", "status", "note",
)  # fmt: skip
ORIGIN_COLUMNS = (
    "method", "domain", "seed", "run_id", "question", "head", "loss_resolved", "optimizer", "schedule",
    "batch_size", "weight_decay", "precision", "init", "template", "split", "split_hash", "truth_digest", "feature_key",
    "weak_key", "text_key", "device", "code", "preds",
)  # fmt: skip
IMAGES = 36


def results_page(
    results: Results,
    *,
    title: str = "Weak-to-strong results",
    source: str = "",
    selection: str = "last",
    table: Table | None = None,
    tasks: Mapping[str, Pair] | None = None,
    diagnoses: Mapping[str, Sequence[Diagnosis]] | None = None,
    images: int = IMAGES,
    remarks: Sequence[str] = (),
    command: str = "",
) -> str:
    """One self-contained HTML page of results; the same arguments give the same bytes.

    source: the file's name. table: the summary to show (None: that of `selection`). tasks: name -> manifest and subject
    of the tasks whose images go into the gallery, at most `images` of them. diagnoses: task -> tables. remarks: what
    should be known of the page, such as what could not be opened. command: what made it. `DataError` without rows.
    """
    if not results.rows:
        raise DataError("there is no result row to show; make some with: w2s-fast train --out FILE")
    shown = table if table is not None else results.table(selection=selection)
    data: dict[str, Any] = {}
    body = [
        _head(results, title, source, selection, remarks, command),
        "<main>",
        _summary(shown, data),
        _picture(shown),
    ]
    links = {"summary": "Summary", "picture": "Picture"}
    found = gallery(tasks or {}, most=images)
    if found is not None:
        links["images"] = "Images"
        data["gallery-data"] = found
        body.append(
            section(
                "images",
                "Where student and supervisor differ",
                "<p>The student is the first of the list under each image; nearest images are those of the strong "
                "encoder, over all rows of the data set.</p>",
                '<div id="gallery"></div>',
            )
        )
    links["runs"] = "Runs"
    varying, same = columns.varying(results.rows, RUN_COLUMNS)
    data["runs-data"] = columns.of_records("Runs", results.rows, varying, note="accuracies and PGR are fractions")
    alike = folded("The same in all runs", facts(same)) if same else ""
    body.append(section("runs", "Every run", drawn_table("runs-table", data="runs-data"), alike))
    if diagnoses:
        links["diagnostics"] = "Diagnostics"
        body.append(section("diagnostics", "Diagnostics", *_diagnostics(diagnoses, data)))
    links["origin"] = "Origin"
    runs = {r.get("run_id"): r for r in reversed(results.rows)}
    data["origin-data"] = columns.of_records("Origin of every run", list(reversed(runs.values())), ORIGIN_COLUMNS)
    body.append(section("origin", "Where the numbers come from", *_origin(results)))
    body.append("</main>")
    body.insert(1, _links(links))
    return document(title, body, data)


def _head(results: Results, title: str, source: str, selection: str, remarks: Sequence[str], command: str) -> str:
    runs = len({r.get("run_id") for r in results.rows})
    pairs = {"results": source, "runs": str(runs), "selection": selection, "made by": command}
    versions = sorted({str(r.get("code")) for r in results.rows if r.get("code")})
    pairs["code"] = ", ".join(versions)
    known = facts({name: value for name, value in pairs.items() if value})
    return f"<header><h1>{text(title)}</h1>{known}{notes(remarks)}</header>"


def _links(links: Mapping[str, str]) -> str:
    inside = "".join(f'<li><a href="#{key}">{text(name)}</a></li>' for key, name in links.items())
    return f'<nav aria-label="Sections"><ul>{inside}</ul></nav>'


def _summary(table: Table, data: dict[str, Any]) -> str:
    parts: list[str] = []
    kinds = {column.name for column in table.columns}
    if len(table.groups) > 1:
        parts += [summary_table(wide(table, name)) for name in ("accuracy", "pgr") if name in kinds]
        records = table.records()
        names = [c for c in (records[0] if records else {}) if not c.endswith("_note")]
        data["summary-data"] = columns.of_records("All columns", records, names, note="fractions")
        parts.append(folded("All columns, with the ends of the intervals", drawn_table("all", data="summary-data")))
    else:
        parts.append(summary_table(table))
    parts += [
        notes(table.notes),
        to_copy("latex", "LaTeX", writing.to_latex(table)),
        to_copy("csv", "CSV", writing.to_csv(table)),
    ]
    return section("summary", "Summary", *parts)


def _picture(table: Table) -> str:
    try:
        svg = to_svg(table)
    except DataError as error:
        return section("picture", "Accuracies", f"<p>{text(str(error))}</p>")
    alt = f"Accuracy of {len(table.systems)} systems on {len(table.domains)} domains with 95 % intervals"
    return section(
        "picture",
        "Accuracies with 95 % intervals",
        svg_figure(svg, alt, "Dots are means over runs; the band reaches from the weak model to the best ceiling. "
                   "The numbers are those of the summary."),
    )  # fmt: skip


def _diagnostics(diagnoses: Mapping[str, Sequence[Diagnosis]], data: dict[str, Any]) -> list[str]:
    parts: list[str] = []
    for name, found in diagnoses.items():
        parts.append(f"<h3>{text(name)}</h3>")
        for one in found:
            key = f"diagnosis-{len(data)}"
            data[key] = columns.table(f"{name}: {one.title}", one.columns, one.rows, note="; ".join(one.notes))
            truth = " (reads ground truth)" if one.reads_truth else ""
            parts.append(folded(one.title + truth, drawn_table(f"{key}-table", data=key)))
    return parts


def _origin(results: Results) -> list[str]:
    asked = {str(r.get("question")): r.get("asked") for r in results.rows if r.get("asked")}
    lines = [json.dumps({"question": digest, **asked[digest]}, sort_keys=True) for digest in sorted(asked)]  # type: ignore[dict-item]
    parts = [
        "<p>Each line names the run, the digest of its question, the banks it read by key, the split and the labels by "
        "digest, and the kept predictions that intervals are made from.</p>",
        folded("Origin of every run", drawn_table("origin-table", data="origin-data")),
    ]
    if lines:
        parts.append(to_copy("questions", f"The {len(lines)} questions, as JSON lines", "\n".join(lines)))
    return parts

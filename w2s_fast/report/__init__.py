"""Tables (Markdown, CSV, LaTeX), claims in words, and one picture, all from a `core.summary.Table`; prints nothing."""

FORMATS: dict[str, str] = {
    "md": "w2s_fast.report.tables:to_markdown",
    "csv": "w2s_fast.report.tables:to_csv",
    "latex": "w2s_fast.report.tables:to_latex",
    "svg": "w2s_fast.report.picture:to_svg",
}
"""A format is a function Table -> str: "module:attribute"."""

"""Tables (Markdown, CSV, LaTeX), claims in words, and one picture, all from a `core.summary.Table`; prints nothing."""

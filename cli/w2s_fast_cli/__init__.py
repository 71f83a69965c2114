"""The command line: typer and rich; the only place that prints. One file per command."""

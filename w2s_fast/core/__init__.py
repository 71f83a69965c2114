"""Specs, ids and hashing, rows, statistics, protocols, errors: standard library and numpy only."""

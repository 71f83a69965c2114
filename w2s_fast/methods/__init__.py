"""Protocols composed of fits: the weak-to-strong protocol, its references, its rows."""

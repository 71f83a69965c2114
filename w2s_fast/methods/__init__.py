"""Protocols composed of fits: the weak-to-strong protocol, its references, its rows."""

from __future__ import annotations

METHODS: dict[str, str] = {
    "cpl": "w2s_fast.methods.presets:CPL",
    "ce+lp": "w2s_fast.methods.presets:CE_LP",
    "kd+lp": "w2s_fast.methods.presets:KD_LP",
    "aux+lp": "w2s_fast.methods.presets:AUX_LP",
    "aux_argmax+lp": "w2s_fast.methods.presets:AUX_ARGMAX_LP",
    "adapt+lp": "w2s_fast.methods.presets:ADAPT_LP",
    "ce+proto": "w2s_fast.methods.presets:CE_PROTO",
    "aux+proto": "w2s_fast.methods.presets:AUX_PROTO",
    "adapt+proto": "w2s_fast.methods.presets:ADAPT_PROTO",
    "ce+tp": "w2s_fast.methods.presets:CE_TP",
    "kd+tp": "w2s_fast.methods.presets:KD_TP",
    "aux+tp": "w2s_fast.methods.presets:AUX_TP",
    "aux_argmax+tp": "w2s_fast.methods.presets:AUX_ARGMAX_TP",
    "adapt+tp": "w2s_fast.methods.presets:ADAPT_TP",
    "tp_coop": "w2s_fast.methods.presets:TP_COOP",
    "tp_cpl": "w2s_fast.methods.presets:TP_CPL",
}
"""A method is a named (head, loss): "module:attribute" of a `presets.Method`. Others may add to the entry-point
group `w2s_fast.methods`."""

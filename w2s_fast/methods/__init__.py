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
    "aux_argmax+proto": "w2s_fast.methods.papers:AUX_ARGMAX_PROTO",
    "kd+adapter": "w2s_fast.methods.papers:KD_ADAPTER",
    "clip_adapter": "w2s_fast.methods.papers:CLIP_ADAPTER",
    "tip": "w2s_fast.methods.papers:TIP",
    "tip_f": "w2s_fast.methods.papers:TIP_F",
    "kd+text_encoder": "w2s_fast.methods.papers:KD_TEXT_ENCODER",
    "csl+lp": "w2s_fast.methods.cosupervised:CSL_LP",
    "csl_hard+lp": "w2s_fast.methods.cosupervised:CSL_HARD_LP",
    "csl_oracle+lp": "w2s_fast.methods.cosupervised:CSL_ORACLE_LP",
    "csl_domain+lp": "w2s_fast.methods.cosupervised:CSL_DOMAIN_LP",
    "csl+lp_literal": "w2s_fast.methods.cosupervised:CSL_LP_LITERAL",
    "cpl_literal": "w2s_fast.methods.papers:CPL_LITERAL",
    "ce+lp_literal": "w2s_fast.methods.papers:CE_LP_LITERAL",
    "kd+lp_literal": "w2s_fast.methods.papers:KD_LP_LITERAL",
    "aux+lp_literal": "w2s_fast.methods.papers:AUX_LP_LITERAL",
    "adapt+lp_literal": "w2s_fast.methods.papers:ADAPT_LP_LITERAL",
}
"""A method is a named (head, loss): "module:attribute" of a `presets.Method`. Others may add to the entry-point
group `w2s_fast.methods`."""

"""Presets that refine weak labels before or between students: graphs, two stages, channels, fusion, self-training."""

from __future__ import annotations

from w2s_fast import supervisions
from w2s_fast.core.specs import parse
from w2s_fast.methods.presets import Method

PROTO = "prototype(init='text')"


def _method(name: str, head: str, supervision: str, loss: str = "kd") -> Method:
    spec = parse(supervision)
    # the source is the supervision's, which the listing of supervisions tells in full
    found = supervisions.find(spec.name)
    return Method(name=name, head=parse(head), loss=parse(loss), source=found.source, supervision=spec)


SMOOTH_LP = _method("smooth+lp", "linear", "smooth")
KNN_RELABEL_LP = _method("knn_relabel+lp", "linear", "knn_relabel")
TWO_STAGE_LP = _method("two_stage+lp", "linear", "two_stage")
CHANNEL_EM_LP = _method("channel_em+lp", "linear", "channel_em")
CHANNEL_EM_PROTO = _method("channel_em+proto", PROTO, "channel_em")
FUSED_LP = _method("fused+lp", "linear", "fused")
FUSED_PROTO = _method("fused+proto", PROTO, "fused")
# not `fusion`, which is the name of the reference row
FUSION_NONE = _method("fusion+none", "linear", "fusion")
SELF_TRAIN_LP = _method("self_train+lp", "linear", "self_train")
RETRAIN_CONFIDENT_LP = _method("retrain_confident_like+lp", "linear", "retrain_confident_like")

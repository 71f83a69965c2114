"""The head-training engine: tensors in, tensors out.

`fit_heads` trains many runs; each is one head, one loss, one seed. Runs that fit together are trained as a stack with a
leading axis R, by closed-form gradients where head and loss have them and by autograd elsewhere, in one loop.
"""

from w2s_fast.heads.head import Features, Start
from w2s_fast.losses.supervision import Batch, Supervision, ground_truth
from w2s_fast.train.engine import SELECTIONS, fit_heads
from w2s_fast.train.features import Resident
from w2s_fast.train.order import order
from w2s_fast.train.plan import RunStack, plan
from w2s_fast.train.run import Fit, Run, SplitRows
from w2s_fast.train.stream import Stream

__all__ = [
    "SELECTIONS",
    "Batch",
    "Features",
    "Fit",
    "Resident",
    "Run",
    "RunStack",
    "SplitRows",
    "Start",
    "Stream",
    "Supervision",
    "fit_heads",
    "ground_truth",
    "order",
    "plan",
]

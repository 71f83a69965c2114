"""CUDA kernels of the engine, in Triton. `rows`, `adam` and `unit` import it, this module does not.

Traffic through GPU memory per step and run. B = 512 rows, k = 345 stored as 352 columns, d = 512: 180,224 logits and
176,640 parameters; fp32, in brackets where GEMM operands are bf16.

| what | bytes each | MB per step | by torch operations |
|---|---|---|---|
| logits: written by the GEMM, read by `rows` | 8 (8) per logit | 1.44 (1.44) | the same |
| offsets b | added in `rows`: 0 | 0 | 8: spread over the logits before the GEMM adds to them |
| weak logits, softmax, target, value, slope, 1 / B, weights | 4: the weak row, gathered here | .72 (.72) | 132 for kd |
| dz: written by `rows`, read by the GEMM | 8 (4) per logit | 1.44 (.72) | the same |
| Adam: p, m, v read and written, dW read | 28 per parameter | 4.95 (4.95) | about 90 |
| bf16 copy of p for the next GEMM, in the same pass | 0 (2) per parameter | 0 (.35) | 6 |
| prototypes, `unit.step`: dW to dC, Adam, next W | 32 (30) per parameter | 5.65 (5.30) | about 140 |

132 = 33 passes of 4 bytes: gather 2, divisions by temperatures 6, two log-softmaxes 4, w 2, value 7, h 2, p and its
part of the gradient 6, weight and 1 / B 4. Runs that share batches find the weak rows in the L2 cache after the first.
Times 190 steps (9,346 rows, 10 epochs), at 4.3 TB/s: rows and logits .159 (.127) ms, Adam .219 (.234) ms per run.
Not fused: the batch's features (gathered, then read by both GEMMs: 16 (8) bytes each, 4.19 (2.10) MB per step, .185
(.093) ms) and the logits themselves. These are sums, not measurements.
"""

from w2s_fast.train.kernels.graph import CudaRecorder, EpochGraph, Recorder
from w2s_fast.train.kernels.kinds import Kind, kind_of, own_labels
from w2s_fast.train.kernels.launch import available, why_not

__all__ = ["CudaRecorder", "EpochGraph", "Kind", "Recorder", "available", "kind_of", "own_labels", "why_not"]

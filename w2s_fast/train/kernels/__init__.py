"""CUDA kernels of the engine, in Triton."""

from w2s_fast.train.kernels.graph import CudaRecorder, EpochGraph, Recorder
from w2s_fast.train.kernels.kinds import Kind, kind_of, own_labels
from w2s_fast.train.kernels.launch import available, why_not

__all__ = ["CudaRecorder", "EpochGraph", "Kind", "Recorder", "available", "kind_of", "own_labels", "why_not"]

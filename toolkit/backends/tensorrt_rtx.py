"""TensorRT-RTX engines: built for any target without a GPU, run on CUDA."""

from __future__ import annotations

from toolkit.backends._tensorrt_run import EngineBackend

backend = EngineBackend("tensorrt_rtx", extra="tensorrt-rtx", needs_gpu=False)

"""TensorRT engines: built on and for the GPU here, run on CUDA."""

from __future__ import annotations

from toolkit.backends._tensorrt_run import EngineBackend

backend = EngineBackend("tensorrt", extra="tensorrt", needs_gpu=True)

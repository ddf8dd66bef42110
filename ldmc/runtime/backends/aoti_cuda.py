"""A package of AOTInductor on an NVIDIA GPU: captured once as a CUDA graph, then replayed.

    copy inputs to their places   ->   replay: all kernels in one launch   ->   copy outputs to the host

A UNet is some hundred small kernels; launched one by one, a fast GPU waits for the CPU between them. A graph reads and
writes the addresses that it was captured with, so inputs have buffers of their own, and outputs are copied away before
the next replay. What cannot be captured runs without.
Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import gc

import numpy as np

from ..errors import BundleProblem, first_line

# The first call loads kernels and picks algorithms, which cannot be captured; PyTorch's documents warm up three times.
WARM_UP_CALLS = 3


class CudaPart(object):
    """One package on the GPU.

    Args:
        model: function of tensors on the GPU that gives a list of such, on the current stream.
        remarks: list of str: told where there is no graph.
    """

    def __init__(self, torch, model, part, remarks):
        self._torch = torch
        self._model = model
        self._part = part
        self._graph = None
        self._outputs = None
        try:
            with torch.no_grad():
                self._inputs = [torch.zeros(tensor.shape, dtype=getattr(torch, tensor.dtype), device="cuda")
                                for tensor in part.inputs]
                self._warm_up()
                self._capture(remarks)
        except Exception as problem:  # the engine's errors share no narrower base
            raise BundleProblem("PyTorch failed to run component %s: %s" % (part.name, first_line(problem)))

    def run(self, arrays):
        """Outputs for `arrays`, both in the manifest's order, when the GPU has them. Raises BundleProblem."""
        torch = self._torch
        try:
            with torch.no_grad():
                for place, array in zip(self._inputs, arrays):
                    place.copy_(torch.from_numpy(np.require(array, requirements="W")))
                if self._graph is not None:
                    self._graph.replay()
                    outputs = self._outputs
                else:
                    outputs = self._model(*self._inputs)
                # A copy to the host waits for the kernels before it on the stream.
                return [output.cpu().numpy() for output in outputs]
        except Exception as problem:  # the engine's errors share no narrower base
            raise BundleProblem("PyTorch failed to run component %s: %s" % (self._part.name, first_line(problem)))

    def close(self):
        """Drops the graph, the package and their memory on the GPU."""
        self._graph = self._outputs = self._inputs = self._model = None
        gc.collect()
        self._torch.cuda.empty_cache()

    def _warm_up(self):
        """On a stream of its own, as capturing does: libraries keep a workspace for each stream."""
        cuda = self._torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for _ in range(WARM_UP_CALLS):
                self._model(*self._inputs)
        cuda.current_stream().wait_stream(side)
        cuda.synchronize()

    def _capture(self, remarks):
        cuda = self._torch.cuda
        graph = cuda.CUDAGraph()
        try:
            with cuda.graph(graph):
                outputs = self._model(*self._inputs)
            graph.replay()
            cuda.synchronize()
        except Exception as problem:  # the engine's errors share no narrower base
            remarks.append("%s: PyTorch could not capture a CUDA graph (%s); its kernels are launched one by one, "
                           "which takes longer" % (self._part.name, first_line(problem)))
            return
        self._graph, self._outputs = graph, outputs

"""The memory budget: how much building and running take, from graphs and a target, before any work and any weight.

    graphs --a model of the engine--> timelines --> libraries + weights + activations + workspace --> Plan

| module | what it knows |
|---|---|
| `timeline` | buffers that come and go: the live bytes of every step |
| `operators` | a graph as an engine runs it, sizes of values |
| `reuse`, `arena` | ONNX Runtime on a CPU: which values share a buffer, what its arena touches |
| `fusion` | TensorRT: what is never written |
| `eager` | PyTorch on a GPU, for the reference project's rows |
| `engines` | each engine's phases: building on the host, building on the device, running |
| `plan`, `remedies` | the whole picture against the target's budget, and what would make it fit |
| `recipe` | the reference project's own way to an engine, predicted |
| `graphs` | the graphs of a request, lowered without weights |
| `chart` | memory over the run, as SVG or PNG |
"""

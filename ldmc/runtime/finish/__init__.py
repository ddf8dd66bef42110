"""Finishing a bundle on its device: `python3 -m runtime finish`, Python 3.6 and no pip install.

    check    machine, L4T, TensorRT, free memory and disk, every file      machine.py, probe.py
    build    each pending engine in a process of its own, smallest first    build.py, ladder.py, process.py
    embed    the engine in TorchScript, where that was asked                embed.py
    verify   outputs against the reference tensors in the bundle            compare.py
    time     whole pictures                                                 ../measure.py

What is done is written into the manifest at once and atomically (record.py), so a run that was stopped, killed or lost
its power goes on where it was. TensorRT, CUDA and ONNX Runtime are only ever loaded in child processes: their memory is
given back when the child ends, and when the system runs out of memory it is the child that is killed.

Of a step in the manifest's `finish.steps`:

    status     pending, done or failed
    ladder     how to build it, from what is wanted to what is left; each rung is one of
                 {"workspace_bytes": N, "tactic_sources": ["cublas", "cublas_lt", "cudnn"]}
                 {"finer": [part, ...]}                     the smaller parts that can stand for it
                 {"fallback": "onnxruntime-cuda"}           run the graph in ONNX Runtime
    attempts   what was tried: rung, outcome (started, interrupted, built, killed, out of memory, failed, skipped), why
    engine     what was built: TensorRT's version, bytes, seconds, layers, peak memory
"""

"""Levels of optimisation, measured side by side: what `ldmc bench` runs.

    eager, jit, a bundle, ...  --worker, a process each-->  drawings in turn: A B C A B C  -->  one result

`level.py` names them, `worker.py` is the process of one (`pytorch.py`, `onnxruntime.py`, `bundle.py` draw in it),
`process.py` its other end, `contestant.py` a level while it is measured, `bench.py` takes turns, `result.py` writes
down what was found, `read.py` reads it (and what the reference project published), `columns.py` makes tables of it,
`compare.py` puts results of several devices together.
"""

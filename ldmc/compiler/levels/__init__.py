"""Levels of optimisation, measured side by side: what `ldmc bench` runs.

    eager, jit, a bundle, ...  --worker, a process each-->  drawings in turn: A B C A B C  -->  one result

`level.py` names them, `worker.py` is the process of one, `process.py` its other end, `bench.py` takes turns,
`result.py` writes down what was found, `paper.py` has what the reference project published, `compare.py` puts results
of several devices together.
"""

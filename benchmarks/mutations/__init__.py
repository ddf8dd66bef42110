"""Damaged input, made from whole input by seed, and what the commands do with it (see `benchmarks/mutate.py`).

values.py      values and texts that no file should hold
documents.py   damage to JSON and TOML, by structure and by text
graphs.py      damage to ONNX graphs, by structure and by byte
weights.py     damage to weight files
kinds.py       which file each kind damages, and which commands read it
trial.py       one damaged input through its commands, in this process: what went wrong
worker.py      trials in a process that is kept, so that PyTorch is imported once
"""

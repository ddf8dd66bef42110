"""Where fidelity goes: how much error each pass adds, and which block of a graph departs from PyTorch.

calls.py      what the reference, eager fp32 PyTorch, is given on the way to a picture, and what it makes of it
blocks.py     the blocks of a network, and recording what they give
by_stage.py   every pass of the bundle's pipeline again, each form run on those calls (forms.py)
graph.py      a bundle's graph and the pieces of it between blocks
by_block.py   every piece on what the reference's blocks were given, and on what the graph itself made
examine.py    all of it for one bundle; results.py: what came out
"""

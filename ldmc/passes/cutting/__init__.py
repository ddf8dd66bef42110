"""Cutting one graph into several that run in order: what `partition` is made of.

line      what each place between two nodes costs: bytes that cross it, weights on either side
choose    the cheapest places for a number of parts
split     the parts themselves
"""

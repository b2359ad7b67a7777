"""Dialtone: takes a phone from its box to a dial tone.

Layers, imports pointing down only: api, then roles, then storage, then core.
"""

"""Seeded worlds: engines over one store, crashes, freezes, clock steps, lost answers; invariants after every step.

``python -m tests.simulation --histories 300`` runs them; ``--seed 17`` reruns one.
"""

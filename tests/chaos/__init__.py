"""Chaos: consumers that die and some that never return, a producer, and faults of the servers drawn from a seed."""

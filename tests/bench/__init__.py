"""Benchmark programs: dvctl beside its yardsticks, on private servers. `make bench`; no test imports them."""

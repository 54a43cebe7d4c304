"""Benchmarks: the project, its peers and the raw floors side by side. ``python -m benchmarks``.

- ``workloads/``: one file per workload: who takes part, what is measured, which target it has.
- ``actors/``: the programs that take part, one file per library; each runs in its own environment.
- ``peers.txt``: what is installed into these environments.

Rules: only ratios within one run count. Contestants take turns in rounds, on one server each for Redis
and NATS; of each figure the median of the rounds is shown, of each ratio the median of the rounds' own.
"""

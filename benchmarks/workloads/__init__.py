"""The workloads, one file each. Each has ``sections(stage)``, which measures and returns its sections.

Rule: no figure without a peer or a floor in the same rounds, unless the target itself is a number.
"""

"""What tests are made of: real servers, real processes, a faulty network between them.

Nothing here imports redis_toolkit, and this file imports nothing, so that a worker script that
wants only ``tests.kit.processes.History`` starts quickly.
"""

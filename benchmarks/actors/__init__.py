"""The programs that take part. One file per library; a role (worker, caller, listener) is its argument.

Rules: a program reads orders from standard input and answers on standard output, one JSON text per line
(see `conversation`); it ends when its input does. It imports its own library and the standard library.
"""

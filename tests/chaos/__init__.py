"""Tasks and durable events while workers, connections and the server are killed, again and again.

Rules: everybody is a process of its own, and tells in a history outside the server what it did. What must
be true is asked of that history and of the server only when all is quiet, so nothing depends on how fast it
went.
"""

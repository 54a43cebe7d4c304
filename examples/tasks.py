"""Work that is done later, by worker processes: submitted, retried, watched, and never lost.

Run it:  .venv/bin/python examples/tasks.py
"""

from __future__ import annotations

import os
import random

from redis_toolkit import App, Reject, RemoteError, Retry, current_task
from redis_toolkit.patterns import TaskQueue

# A private server, started for this script. Any other works as well: redis://localhost:6379/0
app = App("embedded://")
queue = TaskQueue("shop", app=app)


# A call of it can be submitted. It is tried again when it fails, and others wait with it meanwhile.
@queue.task(retries=5, backoff=0.05, timeout=10)
def charge(order: int, amount: float) -> str:
    if amount < 0:
        raise Reject("a negative amount")  # not tried again
    if random.random() < 0.3:
        raise Retry  # the bank does not answer
    return f"order {order}: {amount:.2f} charged by process {os.getpid()} in attempt {current_task().attempt}"


# A queue with an `async def` task is served on an event loop; this one says how far it is.
@queue.task(priority="low")
async def report(pages: int) -> str:
    for page in range(pages):
        await current_task().aprogress(f"page {page + 1} of {pages}")
    return f"{pages} pages"


def main() -> int:
    # Each worker process runs this script as far as this line, and then serves.
    app.start(workers=2)

    report_handle = report.submit(20)
    handles = queue.submit_many(charge.call(order, 9.99 * order) for order in range(1, 6))
    urgent = charge.submit(6, 60, priority="high", id="order-6")
    again = charge.submit(6, 60, priority="high", id="order-6")  # adds nothing: it may be repeated
    for line in queue.gather([urgent, again, *handles], timeout=60):
        print(line)
    print("a repeat of order 6:", again.duplicate)

    wrong = charge.submit(7, -1)
    try:
        wrong.result(timeout=60)
    except RemoteError as error:
        print("order 7:", error)

    later = charge.submit(8, 8, delay=3600)
    print("order 8 is", later.status(), "- cancelled:", later.cancel(), "- it is", later.status())

    print("report:", report_handle.result(timeout=60), "- last heard:", report_handle.progress())
    queue.join(timeout=60)
    print("dead letters:", [(letter.data, letter.reason) for letter in queue.dead()])
    print(queue.stats())
    app.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

// BullMQ on Node: one worker that runs a hundred jobs at once; ended jobs and their results are kept for an hour.
// Orders and answers as in conversation.py; the place in the tally as in tally.py.
"use strict";

const fs = require("node:fs");
const readline = require("node:readline");
const IORedis = require("ioredis");
const { Queue, Worker } = require("bullmq");

const AT_ONCE = 1000;
const CONCURRENCY = 100;
const KEPT = 3600;
const TALLY_MS = 20;
const ORDER = { order_id: 123, amount: 9.99, customer: "alice", items: [1, 2, 3] };

const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
const now = () => Number(process.hrtime.bigint()) / 1e9;

function converse(commands) {
  say({ result: "ready" });
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { do: name, ...given } = JSON.parse(line);
    try {
      say({ result: (await commands[name](given)) ?? null });
    } catch (error) {
      say({ error: String(error) });
    }
  });
  lines.on("close", () => process.exit(0));
}

function worker({ url, queue, tally }) {
  const place = new Float64Array(3);
  const file = fs.openSync(tally, "r+");
  const connection = new IORedis(url, { maxRetriesPerRequest: null });
  const kept = { age: KEPT };
  new Worker(
    queue,
    async () => {
      place[2] = now();
      if (place[0] === 0) place[1] = place[2];
      place[0] += 1;
      return 1;
    },
    { connection, concurrency: CONCURRENCY, removeOnComplete: kept },
  );
  setInterval(() => fs.writeSync(file, new Uint8Array(place.buffer), 0, 24, 0), TALLY_MS);
  converse({});
}

function submitter({ url, queue }) {
  const connection = new IORedis(url, { maxRetriesPerRequest: null });
  const jobs = new Queue(queue, { connection });
  const submit = async ({ count }) => {
    const begun = now();
    for (let first = 0; first < count; first += AT_ONCE) {
      const many = Math.min(AT_ONCE, count - first);
      await jobs.addBulk(Array.from({ length: many }, () => ({ name: "noop", data: ORDER })));
    }
    return { calls: count, per_second: count / (now() - begun) };
  };
  converse({ submit });
}

({ worker, submitter })[process.argv[2]](JSON.parse(process.argv[3]));

// Drives a peer that runs on Node. Takes a line of JSON for each verb (benchmarks/subjects/subject.py says what they
// mean) and answers with a line when it is done. A run notes its moment as eight bytes at the end of a file.

import { openSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

const marks = openSync(process.env.BENCH_MARKS, "a");
const now = () => (performance.timeOrigin + performance.now()) / 1000;
const nothing = () => {
  const mark = Buffer.alloc(8);
  mark.writeDoubleLE(now());
  writeSync(marks, mark);
};
const YEAR = 365 * 86_400_000;

async function bullmq() {
  const { Queue, Worker } = await import("bullmq");
  const connection = { host: "127.0.0.1", port: Number(process.env.BENCH_PORT), maxRetriesPerRequest: null };
  const queue = new Queue("bench", { connection });
  const add = (options) => queue.add("nothing", {}, options);
  const all = async (count, one) => {
    for (let start = 0; start < count; start += 1000)
      await Promise.all(Array.from({ length: Math.min(1000, count - start) }, (_, n) => one(start + n)));
  };
  return {
    add_due: ({ count }) => all(count, () => add()),
    add_later: async ({ count }) => {
      for (let n = 0; n < count; n++) await add({ delay: YEAR });
    },
    add_ticks: ({ count, first, seconds, spread }) =>
      spread
        ? all(count * seconds, (n) => add({ delay: (first + n / count) * 1000 - Date.now() }))
        : all(count, (n) => queue.upsertJobScheduler(`tick${n}`, { every: 1000, startDate: first * 1000 }, { name: "nothing" })),
    run_now: async () => {
      const asked = now();
      await add();
      return asked;
    },
    // Jobs that are done stay in the queue's history, which is its habit.
    go: () => void new Worker("bench", async () => nothing(), { connection, concurrency: 100 }),
  };
}

// A pattern of these starts to work as soon as it is made; what must not run yet waits for the year's end.
function inMemory(make) {
  return {
    add_later: ({ count }) => {
      for (let n = 0; n < count; n++) make("0 0 3 1 1 *", nothing);
    },
    add_ticks: ({ count, first }) => {
      const from = () => now() >= first - 0.001 && nothing();
      for (let n = 0; n < count; n++) make("* * * * * *", from);
    },
    go: () => {},
  };
}

const PEERS = {
  bullmq,
  "node-cron": async () => {
    const { default: cron } = await import("node-cron");
    return inMemory((pattern, run) => cron.schedule(pattern, run));
  },
  croner: async () => {
    const { Cron } = await import("croner");
    return inMemory((pattern, run) => new Cron(pattern, run));
  },
};

const peer = await PEERS[process.argv[2]]();
console.log("null");
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, given] = JSON.parse(line);
  console.log(JSON.stringify((await peer[verb](given)) ?? null));
}
process.exit(0);

#!/usr/bin/env node
const work = async (job) => {
  if (typeof job.payload?.n !== "number") throw new Error("the payload has no n");
  return { double: job.payload.n * 2 };
};
const say = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");

say({ ready: { concurrency: 20 } }); // up to 20 jobs at once, answered in any order
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const job = JSON.parse(line);
  work(job).then(
    (result) => say({ id: job.id, ok: result }),
    (error) => say({ id: job.id, error: String(error), detail: error.stack }));
});

// A sample worker without dependencies: runs jobs, logs a stack trace for one in ten, stops on SIGTERM.
"use strict";

function perform(job) {
  if (job % 10 === 0) throw new Error("mail.example: no answer");
}

let job = 0;
const timer = setInterval(() => {
  job += 1;
  try {
    perform(job);
    console.log(JSON.stringify({ level: "info", msg: `job ${job} done`, job }));
  } catch (error) {
    console.error(error);
  }
}, 150);

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => {
    clearInterval(timer);
    console.log(JSON.stringify({ level: "info", msg: `got ${signal}, stopped after ${job} jobs` }));
  });
}
console.log(JSON.stringify({ level: "info", msg: "worker ready" }));

// SPDX-License-Identifier: BSL-1.0
// Node's own primary, by the environment of node_primary, and with what the documents of Node show for it: a worker
// that has ended is replaced, HUP replaces all of them, and USR2 sends two messages to the first one. With ACCEPT_EXEC
// its workers are that program.
'use strict';
const cluster = require('cluster');

cluster.schedulingPolicy = process.env.ACCEPT_POLICY === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR;
cluster.setupPrimary({
  exec: process.env.ACCEPT_EXEC ? 'worker' : process.env.ACCEPT_WORKER,
  execArgv: [],
  serialization: process.env.ACCEPT_SERIALIZATION || 'json',
});
let stopping = false;
let alive = 0;

function fork() {
  const node = process.execPath;
  if (process.env.ACCEPT_EXEC) process.execPath = process.env.ACCEPT_EXEC;
  const worker = cluster.fork();
  process.execPath = node;
  ++alive;
  console.log(`worker ${worker.id} started, pid ${worker.process.pid}`);
  worker.on('listening', () => console.log(`worker ${worker.id} ready, pid ${worker.process.pid}`));
  worker.on('message', (message) => console.log(`worker ${worker.id} says ${JSON.stringify(message)}`));
  return worker;
}

cluster.on('listening', (worker, at) => console.log(`listening on ${at.address}:${at.port}`));
cluster.on('exit', (worker, code, signal) => {
  console.log(`worker ${worker.id} exited, pid ${worker.process.pid}: ${signal || `status ${code}`}, ` +
    `${worker.exitedAfterDisconnect ? 'asked' : 'not asked'}`);
  if (--alive === 0 && stopping) process.exit(0);
  if (!stopping && !worker.replaced) fork();
});
process.on('SIGHUP', () => {
  for (const old of Object.values(cluster.workers)) {
    old.replaced = true;
    fork().on('listening', () => old.disconnect());
  }
});
process.on('SIGUSR2', () => {
  const worker = Object.values(cluster.workers)[0];
  worker.send({a: [1, 'ü', null]});
  worker.send({$op: 'leave'});
});
process.on('SIGTERM', () => {
  stopping = true;
  cluster.disconnect();
});
for (let i = 0; i < +process.env.ACCEPT_WORKERS; ++i) fork();

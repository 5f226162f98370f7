// SPDX-License-Identifier: BSL-1.0
// An ordinary clustered server. `node application.js [PORT]` runs it under Node's own primary; under another primary it
// finds itself a worker, and does not know the difference.
const cluster = require('cluster');
const http = require('http');

if (cluster.isPrimary) {
  for (let i = 0; i < 2; ++i) cluster.fork();
} else {
  http.createServer((request, response) => {
    response.end(`worker ${cluster.worker.id}, pid ${process.pid}\n`);
  }).listen(process.argv[2] || 8000, '127.0.0.1');
}

// SPDX-License-Identifier: BSL-1.0
// What the HTTP benchmark measures http_cluster against: node_cluster.js WORKERS
'use strict';
const cluster = require('cluster');
const http = require('http');

if (cluster.isMaster) {
  let port = 0;
  for (let i = 0; i < Number(process.argv[2]); ++i) {
    const begin = process.hrtime.bigint();
    const worker = cluster.fork();
    worker.on('listening', (address) => {
      const time = Number(process.hrtime.bigint() - begin) / 1e6;
      if (port === 0) console.log(`listening on 127.0.0.1:${port = address.port}`);
      console.log(`worker ${worker.id} ready, pid ${worker.process.pid} (${time.toFixed(1)} ms)`);
    });
  }
} else {
  const who = `handled by worker ${cluster.worker.id}, pid ${process.pid}\n`;
  const server = http.createServer((request, response) => {
    response.writeHead(200, {'Content-Type': 'text/plain', 'Content-Length': who.length});
    response.end(who);
  });
  server.listen(0, '127.0.0.1', 4096);
}

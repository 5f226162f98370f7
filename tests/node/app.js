// SPDX-License-Identifier: BSL-1.0
// An ordinary application for Node's cluster module, as its workers run it. It knows nothing of who the primary is.
//
//   APP_LISTEN  tcp (default), udp, a path, or `busy PORT`: prints what an address in use is like
//   APP_MAX     maxConnections of the server
'use strict';
const cluster = require('cluster');
const dgram = require('dgram');
const http = require('http');

const who = `worker ${cluster.worker.id} pid ${process.pid}\n`;
const where = process.env.APP_LISTEN || 'tcp';

function answer(request, response) {
  const url = new URL(request.url, 'http://localhost');
  switch (url.pathname) {
    case '/slow': return setTimeout(() => response.end(who), +url.searchParams.get('ms'));
    case '/leave': response.end(who); return cluster.worker.disconnect();
    case '/exit': return response.end(who, () => process.exit(0));
    case '/abort': return process.kill(process.pid, 'SIGKILL');
    default: response.end(who);
  }
}

if (where === 'udp') {
  const socket = dgram.createSocket('udp4');
  socket.on('message', (data, from) => socket.send(`${process.pid} ${data}`, from.port, from.address));
  socket.bind(0, '127.0.0.1', () => console.log(`listening at ${socket.address().port}`));
} else {
  const server = http.createServer(answer);
  if (process.env.APP_MAX) server.maxConnections = +process.env.APP_MAX;
  if (where === 'tcp') {
    server.listen(0, '127.0.0.1', () => console.log(`listening at ${server.address().port}`));
  } else if (where.startsWith('busy ')) {
    server.on('error', (error) => console.log(`not listening: ${error.code} ${error.syscall}`));
    server.listen(+where.slice(5), '127.0.0.1');
    http.createServer(answer).listen(0, '127.0.0.1');  // what makes it ready
  } else {
    server.listen(where, () => console.log(`listening at ${server.address()}`));
  }
}

// SPDX-License-Identifier: BSL-1.0
// A Node server that leaves the heavy work to a child, which is C++: node server.js PATH_OF_HEAVY [PORT]
//   curl http://127.0.0.1:8000/?below=1000000
const http = require('http');
const { fork } = require('child_process');

const heavy = fork('heavy', { execPath: process.argv[2], execArgv: [] });
const waiting = new Map();
heavy.on('message', ({ id, count }) => {
  waiting.get(id).end(`${count} primes\n`);
  waiting.delete(id);
});

let last = 0;
http.createServer((request, response) => {
  const below = Number(new URL(request.url, 'http://localhost').searchParams.get('below'));
  waiting.set(++last, response);
  heavy.send({ id: last, below });
}).listen(process.argv[3] || 8000, '127.0.0.1', function () {
  console.log(`listening on 127.0.0.1:${this.address().port}, the heavy work has pid ${heavy.pid}`);
});

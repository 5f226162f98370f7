// SPDX-License-Identifier: BSL-1.0
// Messages and handles between Node and a child, which is Node in one row and C++ (tests/node/node_peer.cpp) in the
// other, in both serializations:
//
//   node wire.js NODE_PEER [--rounds N]
//
// Figures of one machine in one moment: read the ratios. All load is on 127.0.0.1, and stops by itself.
'use strict';
const childProcess = require('child_process');
const net = require('net');

const MESSAGES = 20000;
const ROUND_TRIPS = 3000;
const HANDLES = 300;

/// The Node child: the same answers as node_peer gives.
function serve() {
  const held = [];
  process.on('message', (message, socket) => {
    if (message.$op === 'hold') {
      held.push(socket);
      process.send({ $held: message.tag });
    } else if (message.$op === 'release') {
      for (const each of held) each.destroy();
      process.send({ $released: held.length });
      held.length = 0;
    } else {
      process.send(message);
    }
  });
}

function seconds(since) {
  return Number(process.hrtime.bigint() - since) / 1e9;
}

/// What one child does in a second, and how long one question takes, in microseconds.
async function measure(child) {
  let wanted = 0;
  let done = null;
  child.on('message', () => {
    if (--wanted === 0) done();
  });
  const answers = (count) => new Promise((resolve) => {
    wanted = count;
    done = resolve;
  });
  let all = answers(1);
  child.send('ready?');
  await all;

  const result = {};
  let begin = process.hrtime.bigint();
  all = answers(MESSAGES);
  for (let i = 0; i < MESSAGES; ++i) child.send({ i, pad: 'x'.repeat(36) });
  await all;
  result['echoes/s'] = MESSAGES / seconds(begin);

  begin = process.hrtime.bigint();
  for (let i = 0; i < ROUND_TRIPS; ++i) {
    all = answers(1);
    child.send({ i });
    await all;
  }
  result['round trip, us'] = seconds(begin) / ROUND_TRIPS * 1e6;

  const server = net.createServer({ pauseOnConnect: true });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const sockets = [];
  const clients = [];
  const accepted = new Promise((resolve) => server.on('connection', (socket) => {
    if (sockets.push(socket) === HANDLES) resolve();
  }));
  for (let i = 0; i < HANDLES; ++i) clients.push(net.connect(server.address().port, '127.0.0.1').on('error', () => {}));
  await accepted;
  begin = process.hrtime.bigint();
  all = answers(HANDLES);
  sockets.forEach((socket, tag) => child.send({ $op: 'hold', tag }, socket));
  await all;
  result['handles/s'] = HANDLES / seconds(begin);

  all = answers(1);
  child.send({ $op: 'release' });
  await all;
  for (const each of clients) each.destroy();
  server.close();
  const ended = new Promise((resolve) => child.on('exit', resolve));
  child.disconnect();
  await ended;
  return result;
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

async function main(peer, rounds) {
  for (const serialization of ['json', 'advanced']) {
    const kinds = {
      Node: () => childProcess.fork(__filename, ['--child'], { serialization }),
      'C++': () => childProcess.fork('peer', [], { execPath: peer, execArgv: [], serialization }),
    };
    const figures = { Node: {}, 'C++': {} };
    for (let round = 0; round < rounds; ++round) {
      for (const [name, start] of Object.entries(kinds)) {
        for (const [what, value] of Object.entries(await measure(start()))) (figures[name][what] ??= []).push(value);
      }
    }
    for (const what of Object.keys(figures.Node)) {
      const [ours, theirs] = [median(figures['C++'][what]), median(figures.Node[what])];
      console.log(`${serialization.padEnd(9)} ${what.padEnd(15)} Node to Node ${theirs.toFixed(0).padStart(7)}` +
        `   Node to C++ ${ours.toFixed(0).padStart(7)}   ratio ${(ours / theirs).toFixed(2)}`);
    }
  }
}

if (process.argv[2] === '--child') {
  serve();
} else if (process.argv.length < 3) {
  console.error('usage: node wire.js NODE_PEER [--rounds N]');
  process.exitCode = 2;
} else {
  main(process.argv[2], process.argv[3] === '--rounds' ? Number(process.argv[4]) : 3);
}

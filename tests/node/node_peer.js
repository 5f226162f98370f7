// SPDX-License-Identifier: BSL-1.0
// Drives node_peer from a real Node, from both ends of the channel and in both serializations.
//
//   node node_peer.js PEER           everything, and exits 0 if nothing has failed
//   node node_peer.js --child        what PEER --spawn starts: the same from the child's end
'use strict';
const assert = require('assert');
const child_process = require('child_process');
const dgram = require('dgram');
const fs = require('fs');
const net = require('net');
const os = require('os');
const path = require('path');

const patience = 30000;

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${patience} ms`)), patience);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/// What comes over a channel, one message after the other.
class Channel {
  constructor(target, advanced) {
    this.target = target;
    this.advanced = advanced;
    this.queue = [];
    this.waiting = [];
    target.on('message', (message, handle) => {
      const next = this.waiting.shift();
      if (next) next([message, handle]); else this.queue.push([message, handle]);
    });
  }
  send(message, handle, options) {
    return new Promise((resolve, reject) =>
      this.target.send(message, handle, options || {}, (error) => error ? reject(error) : resolve()));
  }
  receive(what) {
    if (this.queue.length) return Promise.resolve(this.queue.shift());
    return within(new Promise((resolve) => this.waiting.push(resolve)), `answer to ${what}`);
  }
  async ask(message, handle, options) {
    this.send(message, handle, options).catch(() => {});
    return (await this.receive(require('util').inspect(message).slice(0, 60)))[0];
  }
}

function listen(server, ...where) {
  return new Promise((resolve) => server.listen(...where, () => resolve(server.address())));
}
function text(stream) {
  return within(new Promise((resolve, reject) => {
    let all = '';
    stream.on('data', (data) => all += data);
    stream.on('close', () => resolve(all));
    stream.on('error', reject);
  }), 'end of a connection');
}
function closed(server) {
  return within(new Promise((resolve) => server.close(resolve)), 'close of a server');
}

/// A socket that a server of this process has accepted, and the client's end of it.
async function accepted(server) {
  const address = server.address();
  const client = typeof address === 'string' ? net.connect(address) : net.connect(address.port, address.address);
  client.on('error', () => {});
  const socket = await within(new Promise((resolve) => server.once('connection', resolve)), 'connection');
  return [socket, client];
}

const values = [
  null, true, 0, -1, 1.5, 2147483648, -2147483649, 9007199254740991, '', 'text', 'üñí', '日本語 😀',
  [], {}, [1, [2, [3]]],
  { a: { b: [null, false, { c: 'd' }] } }, { cmd: 'NODE_' }, { cmd: 5 }, 'NODE_X', ['NODE_X'], { cmd: 'node_x' },
  { $op: 5 }, 'a line\nbreak and a \u0000 and " and \\',
];

const cases = {
  async 'answers what it gets'({ channel }) {
    for (const value of values) assert.deepStrictEqual(await channel.ask(value), value);
  },
  async 'takes half a pair for what it is, and goes on'({ channel }) {
    const got = await channel.ask({ half: 'a\ud800b' });
    assert.ok(got.half === 'a\ufffdb', JSON.stringify(got));
  },
  async 'answers in order'({ channel }) {
    const count = 2000;
    for (let index = 0; index < count; ++index) channel.send({ index });
    for (let index = 0; index < count; ++index) assert.deepStrictEqual((await channel.receive('order'))[0], { index });
  },
  async 'answers buffers, and what JSON does not have'({ channel }) {
    if (!channel.advanced) return;
    const bytes = Buffer.from([0, 1, 254, 255]);
    const got = await channel.ask({ bytes, array: new Float64Array([1.5, -0]), view: new Uint16Array([1, 65535]) });
    assert.ok(Buffer.isBuffer(got.bytes) && got.bytes.equals(bytes));
    assert.deepStrictEqual(got.array, new Float64Array([1.5, -0]));
    assert.deepStrictEqual(got.view, new Uint16Array([1, 65535]));
    const big = 12345678901234567890n;
    assert.deepStrictEqual(await channel.ask({ u: undefined, big }), { big });
    assert.deepStrictEqual(await channel.ask([new Set([1, 2]), new Map([['a', 1]]), new Date(0)]),
      [[1, 2], [['a', 1]], '1970-01-01T00:00:00.000Z']);
    const twice = { x: 1 };
    assert.deepStrictEqual(await channel.ask([twice, twice]), [{ x: 1 }, { x: 1 }]);
    channel.send({ pattern: /x/ });  // refused aloud on that side, and the channel goes on
    const round = {};
    round.self = round;
    channel.send(round);
    assert.strictEqual(await channel.ask('on'), 'on');
  },
  async 'sends and gets 4 MB both ways at once'({ channel }) {
    const large = { text: 'x€'.repeat(1024 * 1024) };
    for (let index = 0; index < 4; ++index) channel.send(large);
    for (let index = 0; index < 4; ++index) {
      const [got] = await channel.receive('4 MB');
      assert.ok(got.text === large.text);
    }
  },
  async 'says who it is, and has no variable of the channel'({ channel, role, pid }) {
    assert.deepStrictEqual(await channel.ask({ $op: 'pid' }), { $pid: pid, $role: role });
    assert.deepStrictEqual(await channel.ask({ $op: 'env' }), { $env: {} });
  },
  async 'serves a listener'({ channel }) {
    for (const where of [[0, '127.0.0.1'], [socketPath()]]) {
      const server = net.createServer();
      let address = await listen(server, ...where);
      assert.deepStrictEqual(await channel.ask({ $op: 'serve', n: 3 }, server), { $serving: true });
      // Node would accept beside the peer. It removes the path of a server that it closes, so that gets another name.
      if (typeof address === 'string') fs.renameSync(address, address += '.kept');
      server.close();
      for (let index = 0; index < 3; ++index) {
        const client = typeof address === 'string' ? net.connect(address) : net.connect(address.port, '127.0.0.1');
        assert.match(await text(client), /^handled by .+ pid \d+\n$/);
      }
      assert.deepStrictEqual((await channel.receive('serve'))[0], { $served: 3 });
    }
  },
  async 'answers a socket that Node has accepted'({ channel }) {
    const server = net.createServer({ pauseOnConnect: true });
    await listen(server, 0, '127.0.0.2');
    for (let index = 0; index < 5; ++index) {
      const [socket, client] = await accepted(server);
      const got = text(client);
      assert.deepStrictEqual(await channel.ask({ $op: 'socket', tag: `t${index}` }, socket), { $socket: `t${index}` });
      assert.match(await got, new RegExp(`^socket handled by .+ pid \\d+ t${index}\n$`));
    }
    await closed(server);
  },
  async 'tells a server that closes when its sockets are closed'({ channel }) {
    const server = net.createServer({ pauseOnConnect: true });
    await listen(server, 0, '127.0.0.3');
    const clients = [];
    for (let index = 0; index < 3; ++index) {
      const [socket, client] = await accepted(server);
      clients.push(client);
      assert.deepStrictEqual(await channel.ask({ $op: 'hold', tag: index }, socket), { $held: index });
      client.write('echo');
      await within(new Promise((resolve) => client.once('data', resolve)), 'echo');
    }
    const count = await within(new Promise((resolve, reject) =>
      server.getConnections((error, number) => error ? reject(error) : resolve(number))), 'count');
    assert.strictEqual(count, 3);
    let ended = false;
    const end = closed(server).then(() => ended = true);
    assert.deepStrictEqual(await channel.ask('while it closes'), 'while it closes');
    assert.strictEqual(ended, false);
    assert.deepStrictEqual(await channel.ask({ $op: 'release' }), { $released: 3 });
    await end;
    for (const client of clients) client.destroy();
  },
  async 'takes a handle and what is sent behind it in order'({ channel }) {
    const server = net.createServer({ pauseOnConnect: true });
    await listen(server, 0, '127.0.0.4');
    const clients = [];
    for (let index = 0; index < 10; ++index) {
      const [socket, client] = await accepted(server);
      clients.push(client);
      channel.send({ $op: 'hold', tag: index }, socket);
      channel.send({ between: index });
    }
    for (let index = 0; index < 10; ++index) {
      assert.deepStrictEqual((await channel.receive('held'))[0], { $held: index });
      assert.deepStrictEqual((await channel.receive('between'))[0], { between: index });
    }
    assert.deepStrictEqual(await channel.ask({ $op: 'release' }), { $released: 10 });
    await closed(server);
    for (const client of clients) client.destroy();
  },
  async 'answers a datagram'({ channel }) {
    const socket = dgram.createSocket('udp4');
    await new Promise((resolve) => socket.bind(0, '127.0.0.1', resolve));
    const { port } = socket.address();
    assert.deepStrictEqual(await channel.ask({ $op: 'dgram' }, socket), { $dgram: true });
    socket.close();
    const client = dgram.createSocket('udp4');
    const answer = within(new Promise((resolve) => client.once('message', resolve)), 'datagram');
    client.send('hello', port, '127.0.0.1');
    assert.strictEqual(String(await answer), 'udp:hello');
    client.close();
  },
  async 'knows a bare listener from a bare socket'({ channel }) {
    const server = net.createServer({ pauseOnConnect: true });
    await listen(server, 0, '127.0.0.5');
    assert.deepStrictEqual(await channel.ask({ $op: 'native' }, server._handle), { $native: 'listener' });
    const [socket, client] = await accepted(server);
    assert.deepStrictEqual(await channel.ask({ $op: 'native' }, socket._handle), { $native: 'other' });
    socket.destroy();
    client.destroy();
    await closed(server);
  },
  async 'gives a listener'({ channel }) {
    channel.send({ $op: 'give-server' });
    const [given, server] = await channel.receive('give-server');
    assert.strictEqual(given.$given, 'server');
    assert.ok(server instanceof net.Server);
    assert.deepStrictEqual((await channel.receive('ack'))[0], { $acked: 'server' });
    const connection = new Promise((resolve) => server.once('connection', resolve));
    const client = net.connect(given.port, '127.0.0.1');
    (await within(connection, 'connection to a given server')).end('served by node');
    assert.strictEqual(await text(client), 'served by node');
    await closed(server);
  },
  async 'gives a socket'({ channel }) {
    const server = net.createServer((socket) => socket.end('hello'));
    const { port } = await listen(server, 0, '127.0.0.1');
    channel.send({ $op: 'give-socket', host: '127.0.0.1', port });
    const [given, socket] = await channel.receive('give-socket');
    assert.deepStrictEqual(given, { $given: 'socket' });
    assert.ok(socket instanceof net.Socket);
    assert.strictEqual(await text(socket), 'hello');
    assert.deepStrictEqual((await channel.receive('ack'))[0], { $acked: 'socket' });
    await closed(server);
  },
  async 'is not confused by handles both ways at once'({ channel }) {
    const server = net.createServer({ pauseOnConnect: true });
    await listen(server, 0, '127.0.0.6');
    const clients = [];
    const seen = { held: 0, given: 0, acked: 0 };
    for (let index = 0; index < 20; ++index) {
      const [socket, client] = await accepted(server);
      clients.push(client);
      channel.send({ $op: 'hold', tag: index }, socket);
      channel.send({ $op: 'give-server' });
    }
    for (let index = 0; index < 60; ++index) {
      const [message, handle] = await channel.receive('crossing handles');
      if (message.$held !== undefined) assert.strictEqual(message.$held, seen.held++);
      if (message.$acked) ++seen.acked;
      if (message.$given) ++seen.given, handle.close();
    }
    assert.deepStrictEqual(seen, { held: 20, given: 20, acked: 20 });
    assert.deepStrictEqual(await channel.ask({ $op: 'release' }), { $released: 20 });
    await closed(server);
    for (const client of clients) client.destroy();
  },
  async 'refuses what it cannot do, and goes on'({ channel }) {
    assert.ok((await channel.ask({ $op: 'socket' })).$error);
    assert.ok((await channel.ask({ $op: 'what' })).$error);
    assert.strictEqual(await channel.ask('on'), 'on');
  },
};

/// A name for a socket, in a directory that goes with this process.
function socketPath() {
  if (!socketPath.directory) {
    socketPath.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'node_peer_'));
    socketPath.number = 0;
    process.on('exit', () => fs.rmSync(socketPath.directory, { recursive: true, force: true }));
  }
  return path.join(socketPath.directory, String(++socketPath.number));
}

async function all(context, title) {
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run(context);
    } catch (error) {
      throw new Error(`${title}: ${name}: ${error.stack}`);
    }
  }
}

function exit(process_) {
  if (process_.exitCode !== null || process_.signalCode !== null) {  // and the event has been
    return Promise.resolve(process_.signalCode || process_.exitCode);
  }
  return within(new Promise((resolve) => process_.once('exit', (code, signal) => resolve(signal || code))), 'exit');
}

const ends = {
  async 'exits with the code that it is told'(start) {
    const peer = start();
    peer.send({ $op: 'exit', code: 7 });
    assert.strictEqual(await exit(peer), 7);
  },
  async 'leaves when it is told, with all of its answers'(start) {
    const peer = start();
    const got = [];
    peer.on('message', (message) => got.push(message));
    for (let index = 0; index < 100; ++index) peer.send({ index, pad: 'x'.repeat(10000) });
    peer.send({ $op: 'disconnect' });
    await within(new Promise((resolve) => peer.once('disconnect', resolve)), 'disconnect');
    assert.strictEqual(await exit(peer), 0);
    assert.strictEqual(got.length, 100);
  },
  async 'ends with the channel'(start) {
    const peer = start();
    peer.send({ $op: 'pid' });
    await within(new Promise((resolve) => peer.once('message', resolve)), 'answer');
    peer.disconnect();
    assert.strictEqual(await exit(peer), 0);
  },
  async 'acknowledges a handle of a parent that leaves with it under way'(start) {
    const server = net.createServer({ pauseOnConnect: true });
    await listen(server, 0, '127.0.0.7');
    const [socket, client] = await accepted(server);
    const got = text(client);
    const peer = start();
    peer.on('message', () => {});  // without, Node 20 may end itself over an answer that comes with the acknowledgement
    peer.send({ $op: 'socket', tag: 'last' }, socket);
    peer.disconnect();
    assert.match(await got, / last\n$/);
    assert.strictEqual(await exit(peer), 0);
    server.close();  // of which Node never tells the end, after a local disconnect() with a socket under way
    server.unref();
  },
};

/// With no descriptor left in the peer: Node sends its socket again, and one of the tries must find room.
async function outOfDescriptors(peerPath) {
  const limited = child_process.spawn('/bin/sh', ['-c', 'ulimit -n 16; exec "$0"', peerPath],
    { stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
  const channel = new Channel(limited, false);
  const server = net.createServer({ pauseOnConnect: true });
  await listen(server, 0, '127.0.0.8');
  const clients = [];
  let held = 0;
  const warnings = [];
  const warned = (warning) => warnings.push(warning.name);
  process.on('warning', warned);
  for (let index = 0; index < 16; ++index) {
    const [socket, client] = await accepted(server);
    clients.push(client);
    channel.send({ $op: 'hold', tag: index }, socket);
    const next = await channel.ask({ after: index });
    if (next.$held !== undefined) {
      ++held;
      assert.deepStrictEqual((await channel.receive('after'))[0], { after: index });
    } else {
      assert.deepStrictEqual(next, { after: index });
    }
  }
  assert.ok(held > 0 && held < 16, `${held} of 16 found room`);
  await new Promise(setImmediate);
  assert.ok(warnings.includes('SentHandleNotReceivedWarning'), String(warnings));
  process.removeListener('warning', warned);
  assert.deepStrictEqual(await channel.ask({ $op: 'release' }), { $released: held });
  const [socket, client] = await accepted(server);
  assert.deepStrictEqual(await channel.ask({ $op: 'socket', tag: 'room' }, socket), { $socket: 'room' });
  assert.match(await text(client), / room\n$/);
  for (const each of clients) each.destroy();
  await closed(server);
  limited.disconnect();
  assert.strictEqual(await exit(limited), 0);
}

async function main(peerPath) {
  for (const serialization of ['json', 'advanced']) {
    const start = () => child_process.fork('any', [], { execPath: peerPath, execArgv: [], serialization });
    const stdio = ['inherit', 'inherit', 'inherit', 'ipc'];
    const bare = () => child_process.spawn(peerPath, [], { stdio, serialization });
    const peer = start();
    await all({ channel: new Channel(peer, serialization === 'advanced'), role: 'child', pid: peer.pid },
      `${serialization}, Node is the parent`);
    peer.disconnect();
    assert.strictEqual(await exit(peer), 0);
    for (const [name, run] of Object.entries(ends)) {
      await run(bare).catch((error) => { throw new Error(`${serialization}: ${name}: ${error.stack}`); });
    }
    const parent = child_process.spawn(peerPath, ['--spawn', process.execPath, __filename, '--child'],
      { stdio: 'inherit', env: { ...process.env, NODE_PEER_MODE: serialization, NODE_CHANNEL_FD: '77' } });
    assert.strictEqual(await exit(parent), 0, `${serialization}, Node is the child`);
    for (const [script, code] of [['process.exit(5)', 5], ['process.kill(process.pid, "SIGKILL")', 1],
      ['process.send({$op: "disconnect"}); process.on("disconnect", () => process.exit(4))', 4]]) {
      const other = child_process.spawn(peerPath, ['--spawn', process.execPath, '-e', script], { stdio: 'inherit' });
      assert.strictEqual(await exit(other), code, script);
    }
  }
  await outOfDescriptors(peerPath);
}

async function child() {
  const channel = new Channel(process, process.env.NODE_PEER_MODE === 'advanced');
  await all({ channel, role: 'parent', pid: process.ppid }, 'Node is the child');
  process.disconnect();
}

(process.argv[2] === '--child' ? child() : main(process.argv[2])).then(() => {
  if (process.argv[2] !== '--child') console.log('all passed');
}, (error) => {
  console.error(String(error.stack || error));
  process.exit(1);
});

// SPDX-License-Identifier: BSL-1.0
// process.send between a parent and a forked child: node.js (ping-pong | one-way) COUNT prints microseconds a message.
'use strict';
const { fork } = require('child_process');

const message = { a: [1, 2, 3, 4, 5, 6, 7, 8] };

if (process.send) {
  const [job, count] = process.argv.slice(2);
  let received = 0;
  process.on('message', (what) => {
    if (job === 'ping-pong' || ++received === Number(count)) process.send(what);
  });
} else {
  const [job, count] = [process.argv[2], Number(process.argv[3])];
  const child = fork(__filename, [job, count]);
  let begin, received = 0;
  const done = () => {
    console.log(Number(process.hrtime.bigint() - begin) / 1000 / count);
    child.disconnect();
  };
  child.once('spawn', () => {
    begin = process.hrtime.bigint();
    if (job === 'ping-pong') {
      child.on('message', () => (++received === count ? done() : child.send(message)));
      child.send(message);
    } else {
      child.on('message', done);
      let left = count;
      // The queue has no bound of its own: the next thousand go when the last of these is with the kernel.
      const more = () => {
        for (let i = 0; i < 1000 && left > 0; ++i) child.send(message, --left % 1000 === 0 ? more : undefined);
      };
      more();
    }
  });
}

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string_view>

inline constexpr std::string_view page = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>cohort</title>
<style>
  body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5em auto; max-width: 60em; padding: 0 1em; color: #222; background: #fafafa; }
  h2 { font-size: 1em; margin: 1.5em 0 .3em; }
  #cards { display: flex; flex-wrap: wrap; gap: .7em; }
  #cards div { background: #fff; border: 1px solid #ddd; border-radius: 6px; padding: .5em .9em; min-width: 6em; }
  #cards b { display: block; font-size: 1.5em; font-weight: 600; }
  #cards span { color: #777; font-size: .85em; }
  table { border-collapse: collapse; width: 100%; background: #fff; }
  th, td { text-align: right; padding: .25em .7em; border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums; }
  th { color: #777; font-weight: 500; }
  th:first-child, td:first-child { text-align: left; }
  .ready { color: #080; } .draining, .starting { color: #b60; } .stopping, .dead, .waiting { color: #c00; }
  button { font: inherit; padding: .3em .9em; }
  canvas { width: 100%; height: 70px; background: #fff; border: 1px solid #ddd; }
  #log { font: 13px/1.5 ui-monospace, monospace; background: #fff; border: 1px solid #ddd; padding: .5em; height: 11em; overflow-y: auto; white-space: pre-wrap; }
  #state { color: #c00; }
</style>
<div id="cards"></div>
<p><button id="reload">reload</button> <button id="less">one worker less</button> <button id="more">one worker more</button> <span id="state"></span></p>
<h2>connections a second</h2><canvas id="rate" width="900" height="70"></canvas>
<h2>workers</h2><table id="workers"></table>
<h2>agents</h2><table id="agents"></table>
<h2>counters</h2><table id="counters"></table>
<h2>what happens</h2><div id="log"></div>
<script>
const $ = id => document.getElementById(id);
const element = (kind, text, style) => Object.assign(document.createElement(kind), {textContent: text, className: style ?? ''});
const time = s => s < 60 ? `${s.toFixed(0)} s` : s < 3600 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`;
const size = bytes => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const rates = [];
let before = null, wanted = 0;

function table(id, head, rows) {
  const lines = [head.map(each => element('th', each)), ...rows.map(row => row.map(each =>
    typeof each === 'object' ? element('td', each.state, each.state) : element('td', each)))];
  $(id).replaceChildren(...lines.map(cells => { const line = element('tr'); line.append(...cells); return line; }));
}

function draw() {
  const on = $('rate').getContext('2d'), most = Math.max(10, ...rates);
  on.clearRect(0, 0, 900, 70);
  on.fillStyle = '#47a';
  rates.forEach((rate, i) => on.fillRect(i * 7.5, 70 - 62 * rate / most, 6, 62 * rate / most));
  on.fillStyle = '#777';
  on.fillText(most.toFixed(0), 880, 10);
}

function show(stats) {
  const now = performance.now();
  const served = new Map(stats.workers.map(each => [each.pid, each.served]));
  const rate = worker => before?.served.has(worker.pid)
    ? 1000 * (worker.served - before.served.get(worker.pid)) / (now - before.now) : 0;
  const all = stats.workers.reduce((sum, each) => sum + rate(each), 0);
  if (before) rates.push(all);
  if (rates.length > 120) rates.shift();
  draw();
  wanted = stats.wanted;
  const cards = {'ready': `${stats.ready} of ${stats.wanted}`, 'generation': stats.generation,
    'connections a second': all.toFixed(0), 'served': stats.served, 'restarts': stats.restarts, 'reloads': stats.reloads,
    'lag at most': `${(1000 * Math.max(0, ...stats.workers.map(each => each.lag))).toFixed(1)} ms`, 'up': time(stats.uptime)};
  $('cards').replaceChildren(...Object.entries(cards).map(([name, value]) => {
    const card = element('div');
    card.append(element('b', value), element('span', name));
    return card;
  }));
  const restarts = new Map(stats.slots.map(each => [each.slot, each.restarts]));
  table('workers', ['slot', 'pid', 'generation', 'state', 'up', 'open', 'served', 'a second', 'lag', 'memory', 'restarts'],
    stats.workers.map(each => [each.slot, each.pid, each.generation, {state: each.state}, time(each.uptime), each.open,
      each.served, rate(each).toFixed(0), `${(1000 * each.lag).toFixed(1)} ms`, size(each.memory), restarts.get(each.slot) ?? 0]));
  table('agents', ['name', 'pid', 'state', 'up', 'memory', 'restarts'], stats.agents.map(each =>
    [each.name, each.pid, {state: each.state}, time(each.uptime), size(each.memory), each.restarts]));
  table('counters', ['name', 'counted'], stats.counters.map(each => [each.name, each.value]));
  before = {now, served};
}

const events = new EventSource('events');
events.addEventListener('stats', event => { $('state').textContent = ''; show(JSON.parse(event.data)); });
events.addEventListener('gone', event => { $('state').textContent = JSON.parse(event.data); });
events.addEventListener('happened', event => {
  $('log').append(`${new Date().toLocaleTimeString()}  ${JSON.parse(event.data)}\n`);
  while ($('log').childNodes.length > 500) $('log').firstChild.remove();
  $('log').scrollTop = $('log').scrollHeight;
});
events.onerror = () => { $('state').textContent = 'connecting \u2026'; };

async function post(path) {
  const answer = await fetch(path, {method: 'POST', headers: {'X-Dashboard': 'yes'}});
  if (!answer.ok) $('state').textContent = await answer.text();
}
$('reload').onclick = () => post('reload');
$('less').onclick = () => post(`scale?workers=${Math.max(1, wanted - 1)}`);
$('more').onclick = () => post(`scale?workers=${wanted + 1}`);
</script>
</html>
)page";

// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string_view>

namespace chat {

inline constexpr std::string_view page = R"page(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>chat</title>
<style>
  body { font: 16px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 42em; height: 100vh; display: flex; flex-direction: column; }
  header, form { display: flex; gap: .5em; padding: .5em; align-items: center; }
  header b { flex: 1; }
  ol { flex: 1; overflow-y: auto; margin: 0; padding: .5em; list-style: none; border: solid #ccc; border-width: 1px 0; }
  li b { color: #06c; }
  li.waits { color: #999; }
  input { font: inherit; min-width: 0; padding: .3em; }
  #text { flex: 1; }
  #state { color: #666; font-size: .85em; }
</style>
<header><b id="room"></b><span id="state"></span></header>
<ol id="lines"></ol>
<form><input id="user" size="8" maxlength="20" aria-label="your name"><input id="text" maxlength="1000" autocomplete="off" autofocus placeholder="say something"></form>
<script>
const $ = id => document.getElementById(id);
const room = decodeURIComponent(location.hash.slice(1)) || 'lobby';
const page = [...crypto.getRandomValues(new Uint8Array(12))].map(b => b.toString(16).padStart(2, '0')).join('');
const waiting = new Map();  // what was said and has not come back: counter -> {text, item}
let last = 0, counter = 0, socket = null, joined = false, failures = 0;
$('room').textContent = '#' + room;
$('user').value = localStorage.user || 'guest' + Math.floor(Math.random() * 1000);
$('user').onchange = () => { localStorage.user = $('user').value; socket.close(); };
addEventListener('hashchange', () => location.reload());

function show(user, text, item = document.createElement('li')) {
  const name = document.createElement('b');
  name.textContent = user + ' ';
  item.replaceChildren(name, text);
  item.className = '';
  $('lines').append(item);
  while ($('lines').children.length > 2000) $('lines').firstChild.remove();
  $('lines').scrollTop = $('lines').scrollHeight;
  return item;
}
const name = () => $('user').value.replace(/[\x00-\x1f\x7f]/g, '').trim() || 'guest';
const say = (number, what) => joined && socket.send(`say\t${number}\t${what.text}`);

function connect() {
  joined = false;
  socket = new WebSocket(location.protocol.replace('http', 'ws') + '//' + location.host + '/chat');
  socket.onopen = () => socket.send(`join\t${room}\t${last}\t${page}\t${name()}`);
  socket.onmessage = event => {
    const [number, ...rest] = event.data.split('\t');
    if (number === 'joined') {
      $('state').textContent = `worker ${rest[0]}, pid ${rest[1]}, generation ${rest[2]}`;
      joined = true;
      failures = 0;
      waiting.forEach((what, number) => say(number, what));  // the server drops what it has
    } else if (number === 'gap') {
      show('', '\u2026 the server does not remember what was said here');
    } else if (Number(number) > last) {
      last = Number(number);
      const [, from, mine, user, ...text] = rest;
      const own = from === page ? waiting.get(Number(mine)) : undefined;
      if (own) waiting.delete(Number(mine));
      show(user, text.join('\t'), own?.item);
    }
  };
  socket.onclose = event => {
    joined = false;
    $('state').textContent = event.code === 1012 ? 'the server is replaced \u2026' : 'connecting \u2026';
    // Soon, and not all pages in the same moment.
    setTimeout(connect, Math.random() * Math.min(5000, 200 * 2 ** failures++));
  };
}
document.forms[0].onsubmit = event => {
  event.preventDefault();
  const text = $('text').value.trim();
  $('text').value = '';
  if (!text) return;
  const what = {text, item: show(name(), text)};
  what.item.className = 'waits';
  waiting.set(++counter, what);
  say(counter, what);
};
connect();
</script>
</html>
)page";

}  // namespace chat

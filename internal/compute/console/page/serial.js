'use strict';
// A line terminal for a serial console.

const screen_ = document.getElementById('screen');
const say = (text) => { document.getElementById('status').textContent = text; };
const ws = new WebSocket(location.href.replace(/^http/, 'ws').replace(/#.*/, ''), ['binary']);
ws.binaryType = 'arraybuffer';
const decoder = new TextDecoder();
const encoder = new TextEncoder();
const most = 2000; // lines kept

let lines = [''], column = 0, rest = '';

// An escape sequence, complete or not yet: CSI, OSC, or two characters.
const complete = /^\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()#][\s\S]|[^[\]()#])/;

function feed(text) {
  rest += text;
  for (let i = 0; ;) {
    if (i >= rest.length) { rest = ''; break; }
    const c = rest[i];
    if (c === '\x1b') {
      const m = complete.exec(rest.slice(i));
      if (!m && rest.length - i < 256) { rest = rest.slice(i); break; } // more is to come
      const erase = m && /^\x1b\[0?[JK]$/.test(m[0]);
      if (erase) lines[lines.length - 1] = lines[lines.length - 1].slice(0, column);
      i += m ? m[0].length : 1;
      continue;
    }
    i++;
    put(c);
  }
  lines = lines.slice(-most);
  screen_.textContent = lines.join('\n');
  window.scrollTo(0, document.body.scrollHeight);
}

function put(c) {
  const last = lines.length - 1;
  if (c === '\n') { lines.push(' '.repeat(column)); return; }
  if (c === '\r') { column = 0; return; }
  if (c === '\b') { column = Math.max(0, column - 1); return; }
  if (c === '\t') { do put(' '); while (column % 8); return; }
  if (c < ' ' || c === '\x7f') return;
  const line = lines[last].padEnd(column);
  lines[last] = line.slice(0, column) + c + line.slice(column + 1);
  column++;
}

ws.onopen = () => { say('connected: click here and type; Enter wakes a silent console'); screen_.focus(); };
ws.onmessage = (e) => feed(decoder.decode(e.data, { stream: true }));
ws.onclose = (e) => say('disconnected' + (e.reason ? ': ' + e.reason : ''));
ws.onerror = () => say('no connection: the address is good for a few minutes only, ask for another');

const keys = { Enter: '\r', Backspace: '\x7f', Tab: '\t', Escape: '\x1b', ArrowUp: '\x1b[A', ArrowDown: '\x1b[B', ArrowRight: '\x1b[C', ArrowLeft: '\x1b[D',
  Home: '\x1b[H', End: '\x1b[F', Delete: '\x1b[3~', PageUp: '\x1b[5~', PageDown: '\x1b[6~' };

const send = (text) => { if (text && ws.readyState === 1) ws.send(encoder.encode(text)); };

screen_.addEventListener('keydown', (e) => {
  let text = keys[e.key] || '';
  if (!text && [...e.key].length === 1 && !e.metaKey) {
    if (e.ctrlKey && !e.altKey) {
      if (e.key === 'v' || (e.key === 'c' && String(getSelection()))) return; // the browser's own
      const code = e.key.toUpperCase().charCodeAt(0);
      text = code >= 64 && code < 96 ? String.fromCharCode(code & 31) : '';
    } else {
      text = e.key;
    }
  }
  if (!text) return;
  e.preventDefault();
  send(text);
});
document.addEventListener('paste', (e) => { send(e.clipboardData.getData('text').replace(/\r?\n/g, '\r')); e.preventDefault(); });

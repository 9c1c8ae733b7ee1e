'use strict';
// A small RFB 3.8 viewer (RFC 6143): raw and CopyRect rectangles, the screen's
// size as it changes, keyboard and pointer.

const canvas = document.getElementById('screen');
const pen = canvas.getContext('2d');
const say = (text) => { document.getElementById('status').textContent = text; };

const path = new URLSearchParams(location.search).get('path') || 'console/websockify' + location.search;
const ws = new WebSocket(location.origin.replace(/^http/, 'ws') + '/' + path.replace(/^\//, ''), ['binary']);
ws.binaryType = 'arraybuffer';

// take(n) promises the next n bytes of the stream.
let pieces = [], have = 0, waiting = null;
function pump() {
  if (!waiting || have < waiting.n) return;
  const out = new Uint8Array(waiting.n);
  for (let at = 0; at < out.length;) {
    const part = pieces[0].subarray(0, out.length - at);
    out.set(part, at);
    at += part.length;
    if (part.length === pieces[0].length) pieces.shift(); else pieces[0] = pieces[0].subarray(part.length);
  }
  have -= out.length;
  const { done } = waiting;
  waiting = null;
  done(out);
}
const take = (n) => new Promise((done) => { waiting = { n, done }; pump(); });
const view = async (n) => new DataView((await take(n)).buffer);
const text = async () => new TextDecoder().decode(await take((await view(4)).getUint32(0)));

ws.onmessage = (e) => { const b = new Uint8Array(e.data); if (b.length) { pieces.push(b); have += b.length; pump(); } };
ws.onclose = (e) => say('disconnected' + (e.reason ? ': ' + e.reason : ''));
ws.onerror = () => say('no connection: the address is good for a few minutes only, ask for another');

const bytes = (...b) => ws.send(Uint8Array.from(b));
const u16 = (n) => [n >> 8 & 255, n & 255];
const u32 = (n) => [n >>> 24, n >> 16 & 255, n >> 8 & 255, n & 255];

function resize(w, h) {
  canvas.width = w;
  canvas.height = h;
}

async function handshake() {
  await take(12);
  ws.send(new TextEncoder().encode('RFB 003.008\n'));
  const kinds = await take((await take(1))[0]);
  if (!kinds.includes(1)) throw new Error(kinds.length ? 'the console wants a password' : await text());
  bytes(1);
  if ((await view(4)).getUint32(0) !== 0) throw new Error(await text());
  bytes(1); // shared
  const init = await view(20);
  resize(init.getUint16(0), init.getUint16(2));
  say(await text());
  // 32 bits, little endian, red in the lowest byte: what the canvas has.
  bytes(0, 0, 0, 0, 32, 24, 0, 1, ...u16(255), ...u16(255), ...u16(255), 0, 8, 16, 0, 0, 0);
  bytes(2, 0, ...u16(3), ...u32(1), ...u32(0), ...u32(-223));
}

const ask = (changed) => bytes(3, changed ? 1 : 0, 0, 0, 0, 0, ...u16(canvas.width), ...u16(canvas.height));

async function rectangle() {
  const head = await view(12);
  const [x, y, w, h] = [0, 2, 4, 6].map((at) => head.getUint16(at));
  switch (head.getInt32(8)) {
    case 0: {
      if (!w || !h) return;
      const pixels = new Uint8ClampedArray((await take(w * h * 4)).buffer);
      for (let i = 3; i < pixels.length; i += 4) pixels[i] = 255;
      pen.putImageData(new ImageData(pixels, w, h), x, y);
      return;
    }
    case 1: {
      const from = await view(4);
      pen.drawImage(canvas, from.getUint16(0), from.getUint16(2), w, h, x, y, w, h);
      return;
    }
    case -223:
      resize(w, h);
      return 'resized';
    default:
      throw new Error('the console sent an encoding that was not asked for');
  }
}

async function update() {
  let all = false;
  for (let n = (await view(3)).getUint16(1); n > 0; n--) all = await rectangle() === 'resized' || all;
  ask(!all);
}

async function main() {
  await handshake();
  ask(false);
  for (;;) {
    switch ((await take(1))[0]) {
      case 0: await update(); break;
      case 1: await take(6 * (await view(5)).getUint16(3)); break; // colour map
      case 2: break; // bell
      case 3: await take(3); await text(); break; // clipboard
      default: throw new Error('the console sent an unknown message');
    }
  }
}

// Keysyms of the keys that print nothing.
const keys = { Backspace: 0xff08, Tab: 0xff09, Enter: 0xff0d, Escape: 0xff1b, Delete: 0xffff, Home: 0xff50, ArrowLeft: 0xff51, ArrowUp: 0xff52,
  ArrowRight: 0xff53, ArrowDown: 0xff54, PageUp: 0xff55, PageDown: 0xff56, End: 0xff57, Insert: 0xff63, Shift: 0xffe1, Control: 0xffe3, CapsLock: 0xffe5,
  Meta: 0xffe7, Alt: 0xffe9, AltGraph: 0xfe03 };
for (let n = 1; n <= 12; n++) keys['F' + n] = 0xffbd + n;

function keysym(key) {
  if (keys[key]) return keys[key];
  if ([...key].length !== 1) return 0;
  const point = key.codePointAt(0);
  return point < 256 ? point : 0x01000000 | point;
}

const press = (down, sym) => ws.readyState === 1 && bytes(4, down ? 1 : 0, 0, 0, ...u32(sym));
const held = new Map(); // by the key's place: what it printed may change while it is down

canvas.addEventListener('keydown', (e) => {
  const sym = keysym(e.key);
  if (!sym) return;
  e.preventDefault();
  held.set(e.code, sym);
  press(true, sym);
});
canvas.addEventListener('keyup', (e) => {
  if (held.has(e.code)) press(false, held.get(e.code));
  held.delete(e.code);
  e.preventDefault();
});
canvas.addEventListener('blur', () => {
  for (const sym of held.values()) press(false, sym);
  held.clear();
});

function point(e) {
  if (ws.readyState !== 1) return;
  const box = canvas.getBoundingClientRect();
  const at = (from, size, pixels) => Math.max(0, Math.min(pixels - 1, Math.round(from / size * pixels)));
  const mask = (e.buttons & 1) | (e.buttons & 4) >> 1 | (e.buttons & 2) << 1;
  bytes(5, mask, ...u16(at(e.clientX - box.left, box.width, canvas.width)), ...u16(at(e.clientY - box.top, box.height, canvas.height)));
}
for (const kind of ['mousemove', 'mousedown', 'mouseup']) canvas.addEventListener(kind, point);
canvas.addEventListener('mousedown', () => canvas.focus());
canvas.addEventListener('contextmenu', (e) => e.preventDefault());
document.getElementById('cad').addEventListener('click', () => {
  const all = [keys.Control, keys.Alt, keys.Delete];
  for (const sym of all) press(true, sym);
  for (const sym of all.reverse()) press(false, sym);
  canvas.focus();
});

canvas.focus();
main().catch((err) => { say(err.message); ws.close(); });

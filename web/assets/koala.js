// What every page shares: the one live stream, small custom elements, the drawer.
// Events of the stream become DOM events on document.body, so htmx triggers and
// islands listen the same way.

const still = matchMedia('(prefers-reduced-motion: reduce)');

function listen() {
  const meta = document.querySelector('meta[name="koala-events"]');
  if (!meta) return;
  let source;
  const open = () => {
    source = new EventSource(meta.content);
    source.onopen = () => document.documentElement.removeAttribute('data-offline');
    source.onerror = () => document.documentElement.setAttribute('data-offline', '');
    source.onmessage = (m) => {
      const { name, data } = JSON.parse(m.data);
      // Too much was missed to catch up: the page is read again as a whole.
      if (name === 'koala.reset') { location.reload(); return; }
      document.body.dispatchEvent(new CustomEvent(name, { detail: data, bubbles: false }));
    };
  };
  open();
  addEventListener('pagehide', () => source.close());
  addEventListener('pageshow', (e) => { if (e.persisted) open(); });
}

const thin = '\u2009';

function spell(n, money) {
  const sign = n < 0 ? '\u2212' : '';
  const abs = Math.abs(n);
  const whole = money ? Math.floor(abs / 100) : abs;
  const digits = String(whole).replace(/\B(?=(\d{3})+$)/g, thin);
  return money ? `${sign}¥${digits}.${String(abs % 100).padStart(2, '0')}` : sign + digits;
}

// A figure that counts to its new value when a "figures" event brings one.
class LiveNumber extends HTMLElement {
  connectedCallback() {
    this.heard = (e) => {
      const to = e.detail[this.dataset.key];
      if (Number.isSafeInteger(to)) this.count(to);
    };
    document.body.addEventListener('figures', this.heard);
  }
  disconnectedCallback() {
    document.body.removeEventListener('figures', this.heard);
    cancelAnimationFrame(this.frame);
  }
  count(to) {
    const money = this.hasAttribute('data-money');
    const from = this.value ?? Number(this.textContent.replace(/[^\d\u2212-]/g, '').replace('\u2212', '-'));
    this.value = to;
    cancelAnimationFrame(this.frame);
    if (still.matches || from === to) { this.textContent = spell(to, money); return; }
    const start = performance.now();
    const step = (now) => {
      const t = Math.min(1, (now - start) / 700);
      const eased = 1 - (1 - t) ** 3;
      this.textContent = spell(Math.round(from + (to - from) * eased), money);
      if (t < 1) this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }
}

// A sparkline drawn by the server; points of a "figures" event with its key are added.
class SparkLine extends HTMLElement {
  connectedCallback() {
    const key = this.closest('.figure')?.querySelector('live-number')?.dataset.key;
    const line = this.querySelector('polyline');
    if (!key || !line) return;
    this.heard = (e) => {
      if (!Number.isFinite(e.detail[key])) return;
      this.values = [...(this.values ?? []), e.detail[key]].slice(-60);
      if (this.values.length > 2) line.setAttribute('points', this.points());
    };
    document.body.addEventListener('figures', this.heard);
  }
  disconnectedCallback() { document.body.removeEventListener('figures', this.heard); }
  points() {
    const lo = Math.min(...this.values), span = Math.max(...this.values) - lo || 1;
    return this.values.map((v, i) => `${(i * 120 / (this.values.length - 1)).toFixed(1)},${(26 - (v - lo) / span * 24).toFixed(1)}`).join(' ');
  }
}

class CopyButton extends HTMLElement {
  connectedCallback() {
    if (!navigator.clipboard || this.firstChild) return;
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = this.dataset.label;
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(this.parentElement.querySelector('pre').textContent);
      button.textContent = this.dataset.done;
      setTimeout(() => { button.textContent = this.dataset.label; }, 1600);
    });
    this.append(button);
  }
}

// Keys beside a passcode field, for fingers; the field itself takes a keyboard.
class CodePad extends HTMLElement {
  connectedCallback() {
    const field = this.querySelector('input');
    if (!field || this.querySelector('.keys')) return;
    const keys = document.createElement('div');
    keys.className = 'keys';
    for (const k of ['1', '2', '3', '4', '5', '6', '7', '8', '9', '', '0', '⌫']) {
      if (!k) { keys.append(document.createElement('span')); continue; }
      const b = document.createElement('button');
      b.type = 'button';
      b.textContent = k;
      b.addEventListener('click', () => {
        field.value = k === '⌫' ? field.value.slice(0, -1) : (field.value + k).slice(0, field.maxLength);
      });
      keys.append(b);
    }
    this.append(keys);
  }
}

// The sum of what is chosen on a menu; what is charged is the till's own sum.
class SumChosen extends HTMLElement {
  connectedCallback() {
    this.sum = () => {
      let fen = 0;
      for (const i of this.querySelectorAll('input:checked')) fen += Number(i.dataset.fen);
      this.querySelector('output').textContent = spell(fen, true);
    };
    this.addEventListener('change', this.sum);
    addEventListener('pageshow', this.sum);
    this.sum();
  }
  disconnectedCallback() { removeEventListener('pageshow', this.sum); }
}

// A pad for a signature: drawn with a pointer, or a name that is typed. The form
// takes it as a picture, black on white.
class SignPad extends HTMLElement {
  connectedCallback() {
    this.canvas = this.querySelector('canvas');
    this.field = this.querySelector('[name=picture]');
    this.typed = this.querySelector('[data-name]');
    this.button = this.querySelector('button:not([type=button])');
    this.querySelector('[data-clear]').addEventListener('click', () => { this.typed.value = ''; this.clear(); });
    this.typed.addEventListener('input', () => this.write(this.typed.value.trim()));
    this.canvas.addEventListener('pointerdown', (e) => this.down(e));
    this.canvas.addEventListener('pointermove', (e) => this.move(e));
    for (const end of ['pointerup', 'pointercancel']) this.canvas.addEventListener(end, () => this.up());
    this.clear();
    if (this.typed.value.trim()) this.write(this.typed.value.trim()); // a browser that kept the form
  }
  clear() {
    const c = this.pen = this.canvas.getContext('2d');
    c.fillStyle = '#fff';
    c.fillRect(0, 0, this.canvas.width, this.canvas.height);
    c.strokeStyle = c.fillStyle = '#000';
    c.lineWidth = 3;
    c.lineCap = c.lineJoin = 'round';
    this.keep(0);
  }
  keep(ink) {
    this.ink = ink;
    this.button.disabled = ink < 24;
    this.field.value = ink < 24 ? '' : this.canvas.toDataURL('image/png');
  }
  write(name) {
    this.clear();
    if (!name) return;
    let size = 72;
    do {
      this.pen.font = `italic ${size}px "Snell Roundhand", "Segoe Script", "KaiTi", "STKaiti", cursive`;
      size -= 4;
    } while (size > 16 && this.pen.measureText(name).width > this.canvas.width - 40);
    this.pen.textBaseline = 'middle';
    this.pen.fillText(name, 20, this.canvas.height / 2);
    this.keep(1e3);
  }
  at(e) {
    const box = this.canvas.getBoundingClientRect();
    return [(e.clientX - box.left) * this.canvas.width / box.width, (e.clientY - box.top) * this.canvas.height / box.height];
  }
  down(e) {
    if (this.typed.value) { this.typed.value = ''; this.clear(); }
    this.canvas.setPointerCapture(e.pointerId);
    this.last = this.at(e);
    e.preventDefault();
  }
  move(e) {
    if (!this.last) return;
    const to = this.at(e);
    this.pen.beginPath();
    this.pen.moveTo(...this.last);
    this.pen.lineTo(...to);
    this.pen.stroke();
    this.ink += Math.hypot(to[0] - this.last[0], to[1] - this.last[1]);
    this.last = to;
  }
  up() {
    if (!this.last) return;
    this.last = undefined;
    this.keep(this.ink);
  }
}

customElements.define('sign-pad', SignPad);
customElements.define('code-pad', CodePad);
customElements.define('sum-chosen', SumChosen);
customElements.define('live-number', LiveNumber);
customElements.define('spark-line', SparkLine);
customElements.define('copy-button', CopyButton);

// The drawer closes by its button, Escape, or a click beside it, and gives the
// keyboard back to the row that opened it.
let opener;
function closeDrawer() {
  const drawer = document.getElementById('drawer');
  if (!drawer?.classList.contains('open')) return;
  drawer.className = 'drawer';
  drawer.replaceChildren();
  opener?.focus();
}
document.addEventListener('click', (e) => {
  if (e.target.closest('[data-print]')) { print(); return; }
  const row = e.target.closest('[hx-target="#drawer"]');
  if (row) { opener = row; return; }
  if (e.target.closest('[data-close-drawer]') || !e.target.closest('#drawer, [popover]')) closeDrawer();
  const menu = document.querySelector('details.who[open]');
  if (menu && !menu.contains(e.target)) menu.open = false;
});
document.addEventListener('keydown', (e) => {
  if (e.key !== 'Escape') return;
  closeDrawer();
  document.querySelector('details.who[open]')?.removeAttribute('open');
});
document.addEventListener('htmx:after:swap', () => {
  document.querySelector('#drawer.open [data-close-drawer]')?.focus();
});
// A part that refreshes itself waits while somebody is busy in it: a dialog
// or a folded form is open, or something is being typed. It catches up right afterwards.
const behind = new Set();
const busy = (box) => box.querySelector(':popover-open, details.hold[open]') ||
  (box.contains(document.activeElement) && document.activeElement.matches('input:not([type="radio"], [type="checkbox"]), textarea') && document.activeElement.value);
document.addEventListener('htmx:before:swap', (e) => {
  const box = e.detail?.ctx?.sourceElement ?? e.target;
  if (!box?.hasAttribute?.('hx-trigger') || !busy(box)) return;
  e.preventDefault();
  behind.add(box);
});
function catchUp() {
  for (const box of behind) {
    if (box.isConnected && busy(box)) continue;
    behind.delete(box);
    const name = box.getAttribute('hx-trigger').split(/[\s,]/)[0];
    if (box.isConnected) document.body.dispatchEvent(new CustomEvent(name, { bubbles: false }));
  }
}
document.addEventListener('toggle', () => setTimeout(catchUp, 0), true);
document.addEventListener('focusout', () => setTimeout(catchUp, 0));
// A form that works shows it, and cannot be sent twice by an eager finger.
document.addEventListener('submit', (e) => {
  const button = e.submitter;
  if (button && e.target.method === 'post') setTimeout(() => { button.disabled = true; }, 0);
});
addEventListener('pageshow', () => document.querySelectorAll('button:disabled').forEach((b) => { b.disabled = false; }));

// On a phone the console's bar is longer than the screen: the current entry is in view.
document.querySelector('nav.side a[aria-current="page"]')?.scrollIntoView({ inline: 'center', block: 'nearest' });

listen();

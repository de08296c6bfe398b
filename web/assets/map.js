// <city-map>: the server drew the network; this adds panning, zooming, tips and,
// on live maps, a pulse per tap and trains between stations.

const svgNS = 'http://www.w3.org/2000/svg';
const still = matchMedia('(prefers-reduced-motion: reduce)');
const maxPulses = 90;

class CityMap extends HTMLElement {
  connectedCallback() {
    this.svg = this.querySelector('svg');
    const b = this.svg.viewBox.baseVal;
    this.box = { x: b.x, y: b.y, w: b.width, h: b.height };
    this.start = { ...this.box };
    this.stops = new Map();
    for (const c of this.svg.querySelectorAll('.stops circle')) this.stops.set(c.dataset.id, c);
    this.trains = new Map();
    this.tools();
    this.hands();
    this.tips();
    this.apply();
    this.resized = new ResizeObserver(() => this.apply());
    this.resized.observe(this.svg);
    if (this.hasAttribute('data-live')) this.live();
  }

  disconnectedCallback() {
    this.resized?.disconnect();
    for (const [name, heard] of this.heard ?? []) document.body.removeEventListener(name, heard);
  }

  // --k is SVG units per screen pixel: styles multiply by it to stay constant on screen.
  apply() {
    const { x, y, w, h } = this.box;
    this.svg.setAttribute('viewBox', `${x} ${y} ${w} ${h}`);
    const k = w / (this.svg.clientWidth || w);
    this.style.setProperty('--k', k.toFixed(4));
    this.classList.toggle('zoomed', w < this.start.w * 0.98);
    this.classList.toggle('near', k < 0.72);
    this.classList.toggle('close', k < 0.36);
  }

  zoom(factor, px = 0.5, py = 0.5) {
    const w = Math.min(1000, Math.max(90, this.box.w * factor));
    const h = w * this.box.h / this.box.w;
    this.box.x += (this.box.w - w) * px;
    this.box.y += (this.box.h - h) * py;
    this.box.w = w;
    this.box.h = h;
    this.hold();
    this.apply();
  }

  move(dx, dy) {
    this.box.x += dx;
    this.box.y += dy;
    this.hold();
    this.apply();
  }

  hold() { // the middle of the view stays on the map
    const b = this.box;
    b.x = Math.min(1000 - b.w / 2, Math.max(-b.w / 2, b.x));
    b.y = Math.min(860 - b.h / 2, Math.max(-b.h / 2, b.y));
  }

  tools() {
    const box = document.createElement('div');
    box.className = 'map-tools';
    const use = document.querySelector('svg.icon use')?.getAttribute('href').split('#')[0];
    for (const [icon, label, act] of [
      ['plus', this.dataset.in, () => this.zoom(0.65)],
      ['minus', this.dataset.out, () => this.zoom(1.5)],
      ['maximize', this.dataset.all, () => { this.box = { x: 0, y: 0, w: 1000, h: 860 }; this.apply(); }],
    ]) {
      const button = document.createElement('button');
      button.type = 'button';
      button.setAttribute('aria-label', label);
      button.title = label;
      const svg = document.createElementNS(svgNS, 'svg');
      svg.setAttribute('class', 'icon');
      const ref = document.createElementNS(svgNS, 'use');
      ref.setAttribute('href', `${use}#${icon}`);
      svg.append(ref);
      button.append(svg);
      button.addEventListener('click', act);
      box.append(button);
    }
    this.append(box);
  }

  hands() {
    const at = new Map();
    let moved = 0;
    const scale = () => this.box.w / this.svg.clientWidth;
    const gap = () => { const [a, b] = [...at.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
    this.svg.addEventListener('pointerdown', (e) => { at.set(e.pointerId, { x: e.clientX, y: e.clientY }); moved = 0; });
    this.svg.addEventListener('pointermove', (e) => {
      const from = at.get(e.pointerId);
      if (!from) return;
      const before = at.size === 2 ? gap() : 0;
      at.set(e.pointerId, { x: e.clientX, y: e.clientY });
      moved += Math.abs(e.clientX - from.x) + Math.abs(e.clientY - from.y);
      if (moved > 6 && !this.svg.hasPointerCapture(e.pointerId)) this.svg.setPointerCapture(e.pointerId);
      if (at.size === 2) { this.zoom(before / gap()); return; }
      if (e.pointerType === 'touch' && !this.classList.contains('zoomed')) return;
      this.classList.add('drag');
      this.move((from.x - e.clientX) * scale(), (from.y - e.clientY) * scale());
    });
    const up = (e) => { at.delete(e.pointerId); this.classList.remove('drag'); };
    this.svg.addEventListener('pointerup', up);
    this.svg.addEventListener('pointercancel', up);
    this.svg.addEventListener('click', (e) => { if (moved > 6) { e.preventDefault(); e.stopPropagation(); } }, true);
    this.svg.addEventListener('wheel', (e) => {
      if (!e.ctrlKey && !e.metaKey && document.activeElement !== this.svg) return; // a page scrolls on past the map
      e.preventDefault();
      const r = this.svg.getBoundingClientRect();
      this.zoom(Math.exp(e.deltaY / 300), (e.clientX - r.left) / r.width, (e.clientY - r.top) / r.height);
    }, { passive: false });
    this.svg.addEventListener('keydown', (e) => {
      const step = this.box.w / 8;
      const act = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[e.key];
      if (act) this.move(...act);
      else if (e.key === '+' || e.key === '=') this.zoom(0.7);
      else if (e.key === '-') this.zoom(1.4);
      else return;
      e.preventDefault();
    });
  }

  tips() {
    const tip = document.createElement('div');
    tip.className = 'map-tip';
    tip.hidden = true;
    this.append(tip);
    this.svg.addEventListener('pointerover', (e) => {
      const c = e.target.closest('.stops circle');
      tip.hidden = !c;
      if (!c) return;
      const lines = document.createElement('small');
      lines.textContent = c.dataset.lines;
      tip.replaceChildren(c.dataset.name, lines);
      const r = c.getBoundingClientRect(), m = this.getBoundingClientRect();
      tip.style.left = `${Math.min(m.width - 90, Math.max(90, r.left + r.width / 2 - m.left))}px`;
      tip.style.top = `${Math.max(56, r.top - m.top)}px`;
    });
    this.svg.addEventListener('pointerleave', () => { tip.hidden = true; });
  }

  live() {
    this.heard = [
      ['tap', (e) => this.pulse(e.detail)],
      ['train', (e) => this.train(e.detail)],
    ];
    for (const [name, heard] of this.heard) document.body.addEventListener(name, heard);
    this.pulses = this.svg.querySelector('.pulses');
    this.rails = this.svg.querySelector('.trains');
  }

  // tap: {station, kind: "in"|"out"|"bus"}. Going in is green, coming out amber.
  pulse({ station, kind }) {
    const stop = this.stops.get(station);
    if (!stop || document.hidden || this.pulses.childElementCount > maxPulses) return;
    const ring = document.createElementNS(svgNS, 'circle');
    ring.setAttribute('cx', stop.getAttribute('cx'));
    ring.setAttribute('cy', stop.getAttribute('cy'));
    ring.setAttribute('class', kind === 'out' ? 'out' : 'in');
    this.pulses.append(ring);
    const k = Number(this.style.getPropertyValue('--k')) || 1;
    const frames = still.matches
      ? [{ r: `${8 * k}px`, opacity: 0.9 }, { r: `${8 * k}px`, opacity: 0 }]
      : [{ r: `${3 * k}px`, opacity: 1 }, { r: `${20 * k}px`, opacity: 0 }];
    ring.animate(frames, { duration: 1300, easing: 'cubic-bezier(.2,.7,.3,1)' }).finished.then(() => ring.remove(), () => ring.remove());
  }

  // train: {id, line, from, to, ms}: rolls from one station to the next; without
  // "to" it leaves the map.
  train({ id, line, from, to, ms }) {
    let dot = this.trains.get(id);
    const a = this.stops.get(from), b = this.stops.get(to);
    if (!a || !b) { dot?.remove(); this.trains.delete(id); return; }
    if (!dot) {
      dot = document.createElementNS(svgNS, 'circle');
      dot.setAttribute('fill', this.svg.querySelector(`.lines [data-line="${CSS.escape(line)}"]`)?.getAttribute('stroke') ?? 'currentColor');
      this.rails.append(dot);
      this.trains.set(id, dot);
    }
    const place = (c) => ({ cx: `${c.getAttribute('cx')}px`, cy: `${c.getAttribute('cy')}px` });
    const roll = dot.animate([place(a), place(b)], { duration: still.matches ? 1 : Math.min(60000, Math.max(100, ms)), fill: 'forwards', easing: 'ease-in-out' });
    dot.roll?.cancel();
    dot.roll = roll;
  }
}

customElements.define('city-map', CityMap);

/* The page "Move the curves": loss, slope and posterior of the family's members, drawn while their parameters move.
   The members' names, parameters and ranges come from the library, in the page; the formulas stand here once more and
   are held to the library's by tests/test_site.py. No library, no network. */
"use strict";
(() => {
  const home = document.getElementById("curve-explorer");
  if (!home) return;
  const members = JSON.parse(home.dataset.members);

  /* psi and slope of t = -log p, the value of psi at p = 0, and why there are no posteriors ("" if there are) */
  const bent = "its slope in p is bounded, so every class below a threshold gets probability 0";
  const flat = "it is linear in p, so only the most probable class is told";
  const notConvex = "it is not convex in p here";
  const c = (m) => Math.log(m.base);
  const scale = (m) => (m.normalize ? 1 : m.a * c(m) * m.base);
  const error = (t) => Math.max(-Math.expm1(-t), 1e-300);
  const formulas = {
    cce: { psi: (t) => t, slope: () => 1, supremum: () => Infinity, no: () => "" },
    adma: {
      psi: (t, m) => -(m.normalize ? 1 / (m.a * c(m)) : m.base) * Math.expm1(c(m) * Math.expm1(-m.a * t)),
      slope: (t, m) => scale(m) * Math.exp(-m.a * t) * Math.exp(c(m) * Math.expm1(-m.a * t)),
      supremum: (m) => (m.normalize ? -Math.expm1(-c(m)) / (m.a * c(m)) : m.base - 1),
      no: (m) => (m.a <= 1 / (1 + c(m)) ? "" : notConvex),
    },
    gce: {
      psi: (t, m) => -Math.expm1(-m.q * t) / m.q, slope: (t, m) => Math.exp(-m.q * t), supremum: (m) => 1 / m.q,
      no: (m) => (m.q < 1 ? "" : flat),
    },
    mae: { psi: (t) => 2 * error(t), slope: (t) => 2 * Math.exp(-t), supremum: () => 2, no: () => flat },
    focal: {
      psi: (t, m) => error(t) ** m.gamma * t,
      slope: (t, m) => error(t) ** m.gamma * (1 + m.gamma * Math.exp(-t) * (t > 0 ? t / error(t) : 1)),
      supremum: () => Infinity, no: () => "",
    },
    poly1: {
      psi: (t, m) => t + m.epsilon * error(t), slope: (t, m) => 1 + m.epsilon * Math.exp(-t), supremum: () => Infinity,
      no: () => "",
    },
    taylor: {
      psi: (t, m) => { let sum = 0; for (let i = m.order; i >= 1; i--) sum += error(t) ** i / i; return sum; },
      slope: (t, m) => 1 - error(t) ** m.order,
      supremum: (m) => { let sum = 0; for (let i = m.order; i >= 1; i--) sum += 1 / i; return sum; },
      no: (m) => (m.order === 1 ? flat : bent),
    },
    agce: {
      psi: (t, m) => ((m.a + 1) ** m.q - (m.a + Math.exp(-t)) ** m.q) / m.q,
      slope: (t, m) => Math.exp(-t) * (m.a + Math.exp(-t)) ** (m.q - 1),
      supremum: (m) => ((m.a + 1) ** m.q - m.a ** m.q) / m.q, no: (m) => (m.q === 1 ? flat : m.q < 1 ? bent : notConvex),
    },
    aue: {
      psi: (t, m) => ((m.a - Math.exp(-t)) ** m.q - (m.a - 1) ** m.q) / m.q,
      slope: (t, m) => Math.exp(-t) * (m.a - Math.exp(-t)) ** (m.q - 1),
      supremum: (m) => (m.a ** m.q - (m.a - 1) ** m.q) / m.q, no: (m) => (m.q === 1 ? flat : m.q > 1 ? bent : notConvex),
    },
    aexp: {
      psi: (t, m) => Math.exp(-Math.exp(-t) / m.a) - Math.exp(-1 / m.a),
      slope: (t, m) => Math.exp(-t - Math.exp(-t) / m.a) / m.a, supremum: (m) => 1 - Math.exp(-1 / m.a), no: () => bent,
    },
  };

  /* of two classes, the first with softmax p: eta in proportion to p / psi'(-log p) */
  const posterior = (p, f, m) => {
    const log = (q) => Math.log(q) - Math.log(f.slope(-Math.log(q), m));
    return 1 / (1 + Math.exp(log(1 - p) - log(p)));
  };

  const make = (tag, attributes = {}, ...below) => {
    const svg = ["svg", "path", "line", "text", "circle"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...below);
    return node;
  };
  const W = 340, H = 240, L = 46, R = 10, T = 26, B = 36;
  const short = (x) => (Number.isFinite(x) ? Number(x.toPrecision(4)).toString() : "no bound");

  const chart = (title, id) => {
    const svg = make("svg", { viewBox: `0 0 ${W} ${H}`, class: "curves", role: "img", id: `chart-${id}` });
    const draw = (lines, top, mark) => {
      const x = (p) => L + (W - L - R) * p, y = (v) => T + (H - T - B) * (1 - v / top);
      svg.replaceChildren(make("text", { x: L, y: 15, class: "title" }, title));
      svg.setAttribute("aria-label", `${title} over p; at p = ${short(mark.p)} it is ${mark.text}`);
      for (let k = 0; k <= 4; k++) {
        const v = (top * k) / 4;
        svg.append(make("line", { x1: L, x2: W - R, y1: y(v), y2: y(v), class: "grid" }));
        svg.append(make("text", { x: L - 5, y: y(v) + 4, "text-anchor": "end" }, v.toFixed(2)));
        svg.append(make("text", { x: x(k / 4), y: H - B + 15, "text-anchor": "middle" }, (k / 4).toFixed(2)));
      }
      svg.append(make("text", { x: (L + W) / 2, y: H - 5, "text-anchor": "middle" }, "softmax probability p"));
      for (const [name, f] of lines) {
        let d = "", pen = false;
        for (let k = 1; k < 400; k++) {
          const v = f(k / 400);
          const inside = Number.isFinite(v) && v <= top * 1.02 && v >= 0;
          if (inside) d += `${pen ? "L" : "M"}${x(k / 400).toFixed(1)} ${y(v).toFixed(1)}`;
          pen = inside;
        }
        svg.append(make("path", { d, class: name }));
      }
      if (Number.isFinite(mark.value) && mark.value <= top)
        svg.append(make("circle", { cx: x(mark.p), cy: y(mark.value), r: 4, class: "mark" }));
    };
    return { svg, draw };
  };

  const charts = { loss: chart("loss", "loss"), slope: chart("slope", "slope"), posterior: chart("recovered posterior", "posterior") };
  const controls = make("div", { class: "controls" }), table = make("table"), said = make("p", { "aria-live": "polite", id: "said" });
  const select = make("select", { id: "member" }, ...members.map((m) => make("option", { value: m.name }, m.title)));
  const figures = make("div", { class: "charts" }, ...Object.values(charts).map((of) => of.svg));
  home.replaceChildren(controls, figures, table, said);

  const values = {};
  let at = 0.5;

  const slider = (key, label, low, high, step, value, changed) => {
    const id = `slider-${key}`;
    const shown = make("output", { for: id, id: `${id}-value` }, short(value));
    const input = make("input", { type: "range", id, min: low, max: high, step, value });
    input.addEventListener("input", () => { shown.textContent = short(Number(input.value)); changed(Number(input.value)); update(); });
    return make("div", { class: "slider" }, make("label", { for: id }, label), input, shown);
  };

  const build = () => {
    const member = members.find((m) => m.name === select.value);
    for (const key of Object.keys(values)) delete values[key];
    const rows = [make("div", { class: "slider" }, make("label", { for: "member" }, "loss"), select)];
    for (const p of member.parameters) {
      values[p.name] = p.default;
      if (p.kind === "bool") {
        const box = make("input", { type: "checkbox", id: `slider-${p.name}` });
        box.addEventListener("input", () => { values[p.name] = box.checked; update(); });
        rows.push(make("div", { class: "slider" }, make("label", { for: `slider-${p.name}` }, p.name), box));
      } else rows.push(slider(p.name, p.name, p.low, p.high, p.step, p.default, (v) => { values[p.name] = v; }));
    }
    rows.push(slider("p", "read at p", 0.001, 0.999, 0.001, at, (v) => { at = v; }));
    controls.replaceChildren(...rows);
    update();
  };

  const update = () => {
    const f = formulas[select.value], m = values, t = -Math.log(at);
    const no = f.no(m), psi = f.psi(t, m), slope = f.slope(t, m), back = no ? NaN : posterior(at, f, m);
    const most = (g, limit) => { let top = 1; for (let k = 2; k < 400; k++) top = Math.max(top, g(-Math.log(k / 400), m)); return Math.min(limit, 1.05 * top); };
    charts.loss.draw([["reference", (p) => -Math.log(p)], ["line0", (p) => f.psi(-Math.log(p), m)]], most(f.psi, 6), { p: at, value: psi, text: short(psi) });
    charts.slope.draw([["reference", () => 1], ["line0", (p) => f.slope(-Math.log(p), m)]], most(f.slope, 12), { p: at, value: slope, text: short(slope) });
    charts.posterior.draw([["reference", (p) => p], ["line0", (p) => (no ? NaN : posterior(p, f, m))]], 1, { p: at, value: back, text: no ? "not told" : short(back) });
    const numbers = [
      ["loss", "loss at p", psi], ["slope", "slope at p", slope], ["posterior", "recovered posterior at p, of two classes", back],
      ["slope-at-one", "slope at p = 1", f.slope(0, m)], ["supremum", "largest loss", f.supremum(m)],
    ];
    if (select.value === "adma") numbers.push(["convex-limit", "convex in p up to a =", 1 / (1 + c(m))]);
    const body = make("tbody");
    for (const [id, name, value] of numbers) {
      const told = id === "posterior" && no ? "none" : short(value);
      body.append(make("tr", {}, make("th", { scope: "row" }, name), make("td", { id: `value-${id}`, "data-value": String(value) }, told)));
    }
    table.replaceChildren(body);
    const spec = members.find((x) => x.name === select.value).parameters.map((p) => `${p.name}=${p.kind === "bool" ? String(m[p.name]) : short(m[p.name])}`);
    said.textContent = `${select.value}${spec.length ? ":" + spec.join(",") : ""}. ${no ? "No posterior: " + no + "." : "Posteriors can be recovered."}`;
  };

  select.value = "adma";
  select.addEventListener("input", build);
  build();
})();

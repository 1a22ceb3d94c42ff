// The page: one portrait open, its edits, and what the server answers.

import { ask, bytes, Socket } from "./connection.js";
import { Edits, words } from "./edits.js";
import { Slider } from "./sliders.js";
import { Ball } from "./ball.js";
import { Stage } from "./stage.js";
import { acceptPhotos } from "./photos.js";

const $ = (id) => document.getElementById(id);
const COMMON = ["smile", "jaw_open", "blink", "brow_raise", "brow_furrow", "frown", "pucker", "cheek_raise", "squint", "eye_wide"];
const state = { portrait: null, portraits: [], values: null, own: null, stored: new Map(), frames: [] };
const sliders = new Map();
const stage = new Stage();
let pending = null;
let asked = 0; // the newest message

const edits = new Edits((settled) => { refresh(); request(settled ? "full" : "fast"); });
const socket = new Socket(answered, (open) => status(open ? "" : "The viewer has ended, or is not reachable.", !open));

function status(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

// At most one message a frame of the screen; the last one of a move asks for the whole size.
function request(quality) {
  if (!state.portrait) return;
  document.body.dataset.pending = "yes";
  if (pending) { if (quality === "full") pending = "full"; return; }
  pending = quality;
  requestAnimationFrame(() => {
    asked = socket.send({ type: "render", portrait: state.portrait.key, edits: edits.active(), quality: pending });
    pending = null;
  });
}

async function answered(header, data) {
  if (header.type === "job") return job(header, data);
  if (header.type === "error") return status(header.text, true);
  if (!state.portrait || header.portrait !== state.portrait.key) return;
  if (!(await stage.draw(data, header.seq))) return;
  status("");
  state.values = header.values;
  showValues();
  const now = performance.now();
  state.frames = state.frames.filter((t) => now - t < 1000).concat(now);
  const latency = header.latency ?? 0;
  $("latency").textContent = `${Math.round(latency)} ms · ${header.size} px${header.quality === "fast" ? ` · ${state.frames.length}/s` : ""}`;
  if (header.seq === asked && !pending) document.body.dataset.pending = "no";
  Object.assign(document.body.dataset, { seq: header.seq, quality: header.quality, latency: latency.toFixed(1), ms: header.ms });
}

function showValues() {
  const changed = edits.changed();
  const { values } = state;
  for (const [name, slider] of sliders) {
    const light = ["azimuth", "elevation", "intensity", "ambient"].indexOf(name);
    const value = light >= 0 ? values.light[light] : name in values ? values[name] : values.expression[name];
    slider.show(value, light >= 0 ? changed.has("light") : changed.has(name));
  }
  ball.show(values.light, values.illumination);
}

function refresh() {
  $("undo").disabled = !edits.past.length;
  $("redo").disabled = !edits.future.length;
  $("reset").disabled = !edits.list.length;
  $("no-edits").hidden = edits.list.length > 0;
  $("edits").replaceChildren(...edits.list.map((edit, i) => {
    const row = document.createElement("li");
    row.classList.toggle("off", !edit.on);
    row.innerHTML = `<input type="checkbox"><span></span><button type="button">↑</button><button type="button">↓</button><button type="button">✕</button>`;
    const [on, text, up, down, remove] = row.children;
    text.textContent = text.title = words(edit);
    on.checked = edit.on;
    on.ariaLabel = `${words(edit)}: on`;
    [up.ariaLabel, down.ariaLabel, remove.ariaLabel] = ["Earlier", "Later", "Remove"].map((verb) => `${verb}: ${words(edit)}`);
    up.disabled = i === 0;
    down.disabled = i === edits.list.length - 1;
    on.addEventListener("change", () => edits.change((list) => { list[i].on = on.checked; }));
    up.addEventListener("click", () => edits.change((list) => list.splice(i - 1, 0, ...list.splice(i, 1))));
    down.addEventListener("click", () => edits.change((list) => list.splice(i + 1, 0, ...list.splice(i, 1))));
    remove.addEventListener("click", () => edits.change((list) => list.splice(i, 1)));
    return row;
  }));
}

function lightWith(change) {
  const light = [...state.values.light];
  for (const [i, value] of Object.entries(change)) light[i] = value;
  light[2] = Math.max(0, light[2]);
  light[3] = Math.max(0, light[3]);
  state.values.light = light;
  edits.set("light", light.map((v) => +v.toFixed(3)));
}

const ball = new Ball($("ball"), { onInput: (azimuth, elevation) => state.values && lightWith({ 0: azimuth, 1: elevation }), onEnd: () => edits.end() });

function slider(parent, facts) {
  const { name } = facts;
  const light = ["azimuth", "elevation", "intensity", "ambient"].indexOf(name);
  const set = light >= 0 ? (value) => lightWith({ [light]: value }) : (value) => edits.set(name, value);
  sliders.set(name, new Slider(parent, facts, {
    onInput: (value) => state.values && set(value), onEnd: () => edits.end(), onReset: () => edits.clear(light >= 0 ? "light" : name) }));
}

async function build() {
  const pack = await ask("/api/pack");
  const reach = (name) => pack.reach[name];
  for (const name of ["yaw", "pitch", "roll"]) slider($("pose"), { name, label: name[0].toUpperCase() + name.slice(1), low: -45, high: 45, step: 0.5, unit: "degrees", reach: reach(name) });
  for (const [name, low, high, step, unit] of [["azimuth", -180, 180, 1, "degrees"], ["elevation", -90, 90, 1, "degrees"], ["intensity", 0, 1.5, 0.01, ""], ["ambient", 0, 1.5, 0.01, ""]])
    slider($("light"), { name, label: name[0].toUpperCase() + name.slice(1), low, high, step, unit, reach: reach(name) });
  const common = COMMON.filter((name) => pack.expressions.includes(name));
  const rest = pack.expressions.filter((name) => !common.includes(name));
  for (const name of [...common, ...rest])
    slider($(common.includes(name) ? "common" : "rare"), { name, label: name.replaceAll("_", " "), low: -3, high: 4, step: 0.05, unit: "standard deviations", reach: reach(name) });
  $("search").addEventListener("input", () => {
    const asked = $("search").value.trim().toLowerCase().replaceAll(" ", "_");
    for (const name of rest) sliders.get(name).row.hidden = !name.includes(asked);
  });
  for (const [name, set] of Object.entries(pack.presets)) {
    const known = !set.expression || Object.keys(set.expression).every((n) => pack.expressions.includes(n));
    if (!known) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    button.addEventListener("click", () => state.portrait && edits.add(name, { set }));
    $("presets").append(button);
  }
}

async function list() {
  state.portraits = await ask("/api/portraits");
  $("portraits").replaceChildren(...state.portraits.map((portrait) => {
    const item = document.createElement("li");
    item.innerHTML = `<button type="button" class="tile"><img loading="lazy" alt=""><span></span></button>`;
    const [button] = item.children;
    button.children[0].src = `/api/portraits/${portrait.key}/thumbnail`;
    button.children[1].textContent = button.title = portrait.name;
    button.ariaCurrent = String(state.portrait?.key === portrait.key);
    button.addEventListener("click", () => open(portrait.key));
    return item;
  }));
  $("other").replaceChildren(...state.portraits.filter((p) => p.key !== state.portrait?.key).map((p) => new Option(p.name, p.key)));
  $("take").disabled = state.portraits.length < 2;
}

async function open(key) {
  try {
    if (state.portrait) state.stored.set(state.portrait.key, edits.list);
    const portrait = await ask(`/api/portraits/${key}`);
    Object.assign(state, { portrait, own: portrait.values, values: portrait.values });
    stage.open(key);
    $("title").textContent = portrait.name;
    $("embed").hidden = portrait.embedded;
    edits.load(state.stored.get(key) || []);
    showValues();
    await list();
  } catch (error) { status(error.message, true); }
}

function job(header, data) {
  const over = ["done", "failed", "cancelled"].includes(header.state);
  $("job").hidden = over;
  $("embed").disabled = !over;
  if (header.state === "done") { status(`Embedded in ${header.folder}`); if (state.portrait?.key === header.portrait) $("embed").hidden = true; list(); }
  if (header.state === "failed") status(header.text, true);
  if (header.state === "cancelled") status("Embedding cancelled.");
  if (over) return;
  $("job-text").textContent = header.state === "compile" ? "Compiling, once …" : `Embedding: step ${header.step} of ${header.steps}`;
  $("job-bar").value = header.steps ? header.step / header.steps : 0;
  if (data.length) createImageBitmap(new Blob([data], { type: "image/jpeg" })).then((bitmap) => $("synthesis").getContext("2d").drawImage(bitmap, 0, 0, 128, 128));
}

async function save(kind, suffix) {
  status("Making the file …");
  try {
    const { blob, name } = await bytes(`/api/portraits/${state.portrait.key}/download`, { kind, suffix, edits: edits.active() });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    status(`Saved ${name}`);
  } catch (error) { status(error.message, true); }
}

function actions() {
  $("undo").addEventListener("click", () => edits.undo());
  $("redo").addEventListener("click", () => edits.redo());
  $("reset").addEventListener("click", () => edits.reset());
  $("split").addEventListener("click", () => {
    stage.split(!stage.splitted);
    $("split").ariaPressed = String(stage.splitted);
  });
  for (const [start, end] of [["pointerdown", "pointerup"], ["pointerdown", "pointerleave"]]) {
    $("hold").addEventListener(start, () => stage.hold(true));
    $("hold").addEventListener(end, () => stage.hold(false));
  }
  const typing = (event) => event.target.matches("input[type=number], input[type=search], textarea, select");
  addEventListener("keydown", (event) => {
    if (typing(event)) return;
    if (event.key.toLowerCase() === "b" && !event.ctrlKey && !event.metaKey) stage.hold(true);
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") { event.preventDefault(); event.shiftKey ? edits.redo() : edits.undo(); }
    if (event.ctrlKey && event.key.toLowerCase() === "y") { event.preventDefault(); edits.redo(); }
  });
  addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "b") stage.hold(false); });
  document.querySelectorAll("[data-kind]").forEach((button) => button.addEventListener("click", () => {
    button.closest("details").open = false;
    if (state.portrait) save(button.dataset.kind, button.dataset.suffix);
  }));
  addEventListener("click", (event) => document.querySelectorAll(".menu[open]").forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; }));
  $("command").addEventListener("click", async () => {
    $("command").closest("details").open = false;
    try {
      $("words-text").value = (await ask(`/api/portraits/${state.portrait.key}/command`, { edits: edits.active() })).command;
      $("words").showModal();
    } catch (error) { status(error.message, true); }
  });
  $("copy").addEventListener("click", () => navigator.clipboard?.writeText($("words-text").value));
  $("take").addEventListener("click", () => {
    const controls = [...document.querySelectorAll(".take input:checked")].map((box) => box.value);
    if (!controls.length || !state.portrait) return status("Choose what to take.", true);
    const name = $("other").selectedOptions[0].textContent;
    edits.add(`${controls.map((c) => (c === "illumination" ? "light" : c)).join(" and ")} of ${name}`, { take: { from: $("other").value, controls } });
  });
  $("embed").addEventListener("click", async () => {
    try {
      $("embed").disabled = true;
      await ask(`/api/portraits/${state.portrait.key}/embed`, {});
    } catch (error) { status(error.message, true); $("embed").disabled = false; }
  });
  $("cancel").addEventListener("click", () => ask("/api/cancel", {}));
  const theme = (name) => { if (name) document.documentElement.dataset.theme = localStorage.theme = name; };
  theme(localStorage.theme);
  $("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    theme(dark ? "light" : "dark");
  });
}

actions();
acceptPhotos({ onOpen: async (portrait) => open(portrait.key), onStatus: status });
await build();
refresh();
await list();
if (state.portraits.length) await open(state.portraits[0].key);
document.body.dataset.ready = "yes";

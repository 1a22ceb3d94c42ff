// The list of edits: what each one changes, which are on, and all that can be undone.

const CONTROL = (name) => ["yaw", "pitch", "roll"].includes(name) ? "pose" : name === "light" ? "illumination" : "expression";

export class Edits {
  constructor(onChange) {
    this.onChange = onChange;
    this.list = [];
    this.past = [];
    this.future = [];
    this.moving = false;
    this.next = 1;
  }

  active() {
    return this.list.filter((edit) => edit.on).map(({ set, take }) => (set ? { set } : { take }));
  }

  load(list) {
    Object.assign(this, { list, past: [], future: [], moving: false });
    this.onChange(true);
  }

  // One move of a slider is one step of undo, however many values it passes.
  begin() {
    if (this.moving) return;
    this.moving = true;
    this.remember();
  }

  end() {
    if (!this.moving) return;
    this.moving = false;
    this.onChange(true);
  }

  remember() {
    this.past.push(JSON.stringify(this.list));
    if (this.past.length > 300) this.past.shift();
    this.future = [];
  }

  set(name, value) {
    this.begin();
    const own = this.list.findLast((edit) => edit.on && edit.name === name);
    const later = own && this.list.slice(this.list.indexOf(own) + 1).some((edit) => edit.on && touches(edit, name));
    const set = CONTROL(name) === "expression" ? { expression: { [name]: value } } : { [name]: value };
    if (own && !later) own.set = set;
    else this.list.push({ id: this.next++, on: true, name, set });
    this.onChange(false);
  }

  clear(name) {
    this.remember();
    this.list = this.list.filter((edit) => edit.name !== name);
    this.onChange(true);
  }

  add(label, edit) {
    this.remember();
    this.list.push({ id: this.next++, on: true, label, ...edit });
    this.onChange(true);
  }

  change(work) {
    this.remember();
    work(this.list);
    this.onChange(true);
  }

  reset() {
    if (this.list.length) this.change((list) => list.splice(0));
  }

  undo() { this.step(this.past, this.future); }

  redo() { this.step(this.future, this.past); }

  step(from, to) {
    if (!from.length) return;
    to.push(JSON.stringify(this.list));
    this.list = JSON.parse(from.pop());
    this.moving = false;
    this.onChange(true);
  }

  // The names whose sliders are away from the portrait's own.
  changed() {
    const names = new Set();
    for (const { on, set, take } of this.list) {
      if (!on) continue;
      if (take) for (const control of take.controls) names.add(`take:${control}`);
      else for (const name of Object.keys(set)) name === "expression" ? Object.keys(set.expression).forEach((n) => names.add(n)) : names.add(name);
    }
    return names;
  }
}

function touches(edit, name) {
  if (edit.take) return edit.take.controls.includes(CONTROL(name));
  return name in edit.set || name in (edit.set.expression || {});
}

export function words(edit) {
  if (edit.label) return edit.label;
  const value = edit.set.expression ? edit.set.expression[edit.name] : edit.set[edit.name];
  if (edit.name === "light") return `light ${value.slice(0, 2).map((v) => `${Math.round(v)}°`).join(", ")}, ${value.slice(2).map((v) => v.toFixed(2)).join(", ")}`;
  return `${edit.name.replaceAll("_", " ")} ${value > 0 ? "+" : ""}${+value.toFixed(2)}${edit.set.expression ? "" : "°"}`;
}

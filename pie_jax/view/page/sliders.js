// A slider with its number, the range where the pack's edits were measured to arrive, and a way back.

export class Slider {
  constructor(parent, { name, label, low, high, step, unit, reach }, { onInput, onEnd, onReset }) {
    const id = `slider-${name}`;
    this.name = name;
    this.row = document.createElement("div");
    this.row.className = "slider";
    this.row.innerHTML = `<label for="${id}"></label><input id="${id}" type="range" min="${low}" max="${high}" step="${step}">
      <input type="number" step="${step}" min="${low}" max="${high}"><button type="button">↺</button>`;
    [this.label, this.range, this.number, this.back] = this.row.children;
    this.label.textContent = this.label.title = label;
    this.number.ariaLabel = `${label}${unit ? `, ${unit}` : ""}`;
    this.back.ariaLabel = `Reset ${label}`;
    if (reach) {
      const share = (value) => `${(100 * (Math.min(Math.max(value, low), high) - low)) / (high - low)}%`;
      this.range.style.setProperty("--low", share(reach[0]));
      this.range.style.setProperty("--high", share(reach[1]));
      this.row.title = `Edits of this pack were measured to arrive from ${reach[0]} to ${reach[1]}`;
    }
    this.range.addEventListener("input", () => { this.number.value = this.range.value; onInput(this.value()); });
    this.range.addEventListener("change", onEnd);
    this.range.addEventListener("pointerup", onEnd); // a slider that comes back to where it was has no change
    this.number.addEventListener("change", () => {
      if (this.number.value === "" || Number.isNaN(+this.number.value)) return;
      this.range.value = this.number.value;
      onInput(this.value());
      onEnd();
    });
    this.back.addEventListener("click", onReset);
    parent.append(this.row);
  }

  value() { return +this.range.value; }

  show(value, changed) {
    this.row.classList.toggle("changed", changed);
    if (document.activeElement === this.number) return;
    this.range.value = value;
    this.number.value = +value.toFixed(2);
  }
}

// The picture: edited, before, or both with a line between them.

export class Stage {
  constructor() {
    this.frame = document.getElementById("frame");
    this.canvas = document.getElementById("edited");
    this.original = document.getElementById("original");
    this.divider = document.getElementById("divider");
    this.badge = document.getElementById("badge");
    this.context = this.canvas.getContext("2d");
    this.frame.classList.add("none");
    this.splitted = false;
    this.held = false;
    this.drawn = 0;
    this.place(0.5);
    const move = (event) => {
      const box = this.canvas.getBoundingClientRect();
      this.place((event.clientX - box.left) / box.width);
    };
    this.divider.addEventListener("pointerdown", (event) => this.divider.setPointerCapture(event.pointerId));
    this.divider.addEventListener("pointermove", (event) => { if (this.divider.hasPointerCapture(event.pointerId)) move(event); });
    this.divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.03, ArrowRight: 0.03 }[event.key];
      if (step) this.place(this.share + step);
    });
  }

  async draw(data, seq) {
    const bitmap = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
    if (seq < this.drawn) return false; // a newer one was quicker
    this.drawn = seq;
    if (this.canvas.width !== bitmap.width) this.canvas.width = this.canvas.height = bitmap.width;
    this.context.drawImage(bitmap, 0, 0);
    this.frame.classList.remove("none");
    return true;
  }

  open(key) {
    this.original.src = `/api/portraits/${key}/original`;
    this.hold(false);
  }

  hold(held) {
    this.held = held;
    this.refresh();
  }

  split(splitted) {
    this.splitted = splitted;
    this.refresh();
  }

  refresh() {
    this.original.hidden = !(this.held || this.splitted);
    this.original.classList.toggle("splitted", this.splitted && !this.held);
    this.divider.hidden = !this.splitted || this.held;
    this.badge.hidden = !this.held;
  }

  place(share) {
    this.share = Math.max(0, Math.min(1, share));
    this.frame.style.setProperty("--split", `${100 * this.share}%`);
    this.frame.style.setProperty("--split-share", this.share);
    this.divider.ariaValueNow = Math.round(100 * this.share);
  }
}

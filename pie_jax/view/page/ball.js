// The light as a ball to drag: shaded by the very coefficients that light the face.

const [B0, B1, B2] = [Math.PI / Math.sqrt(4 * Math.PI), (2 * Math.PI) / Math.sqrt(4 * Math.PI), ((2 * Math.PI) / Math.sqrt(8)) * 3 * Math.sqrt(5) / Math.sqrt(12 * Math.PI)];
const GAMMA = 0.8; // added to band 0 of the coefficients

export class Ball {
  constructor(canvas, { onInput, onEnd }) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    const size = canvas.width;
    const move = (event) => {
      const box = canvas.getBoundingClientRect();
      let x = (2 * (event.clientX - box.left)) / box.width - 1;
      let y = 1 - (2 * (event.clientY - box.top)) / box.height;
      const far = Math.hypot(x, y);
      if (far > 0.985) [x, y] = [(x / far) * 0.985, (y / far) * 0.985];
      const elevation = Math.asin(y);
      const azimuth = Math.asin(Math.max(-1, Math.min(1, x / Math.cos(elevation))));
      onInput((azimuth * 180) / Math.PI, (elevation * 180) / Math.PI);
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); move(event); });
    canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) move(event); });
    canvas.addEventListener("pointerup", onEnd);
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] }[event.key];
      if (!step) return;
      event.preventDefault();
      const [azimuth, elevation] = this.light;
      onInput(Math.max(-180, Math.min(180, azimuth + step[0])), Math.max(-90, Math.min(90, elevation + step[1])));
      onEnd();
    });
    this.light = [0, 0];
    this.size = size;
  }

  show(light, gamma) {
    this.light = light;
    const { size, context } = this;
    const image = context.createImageData(size, size);
    for (let row = 0; row < size; row++) {
      for (let column = 0; column < size; column++) {
        const x = (2 * (column + 0.5)) / size - 1;
        const y = 1 - (2 * (row + 0.5)) / size;
        const square = 1 - x * x - y * y;
        if (square < 0) continue;
        const z = Math.sqrt(square);
        const basis = [B0, -B1 * y, B1 * z, -B1 * x, B2 * x * y, -B2 * y * z, ((0.5 * B2) / Math.sqrt(3)) * (3 * z * z - 1), -B2 * x * z, 0.5 * B2 * (x * x - y * y)];
        const at = 4 * (row * size + column);
        for (let c = 0; c < 3; c++) {
          let sum = basis[0] * GAMMA;
          for (let k = 0; k < 9; k++) sum += basis[k] * gamma[9 * c + k];
          image.data[at + c] = 255 * Math.pow(Math.min(1, Math.max(0, sum * 0.72)), 1 / 2.2);
        }
        image.data[at + 3] = 255 * Math.min(1, square * size * 0.25);
      }
    }
    context.putImageData(image, 0, 0);
    const [a, e] = light.map((angle) => (angle * Math.PI) / 180);
    const behind = Math.cos(a) < 0;
    context.beginPath();
    context.arc((size / 2) * (1 + Math.sin(a) * Math.cos(e) * 0.94), (size / 2) * (1 - Math.sin(e) * 0.94), 6, 0, 7);
    context.fillStyle = behind ? "#0000" : "#fff";
    context.strokeStyle = "#0009";
    context.lineWidth = 2;
    context.fill();
    context.stroke();
    this.canvas.setAttribute("aria-valuetext", `azimuth ${Math.round(light[0])} degrees, elevation ${Math.round(light[1])} degrees`);
  }
}

// Photos that come to the page: dropped, pasted or chosen; their faces are shown, and one is opened.

import { ask } from "./connection.js";

export function acceptPhotos({ onOpen, onStatus }) {
  const file = document.getElementById("file");
  const drop = document.getElementById("drop");
  const take = async (files) => {
    const photos = [...files].filter((f) => f.type.startsWith("image/") || /\.(heic|heif|avif)$/i.test(f.name));
    if (files.length && !photos.length) onStatus("That is no picture.", true);
    for (const photo of photos) {
      try {
        onStatus(`Looking for faces in ${photo.name} …`);
        const found = await ask("/api/photos", photo);
        onStatus("");
        if (!found.faces.length) onStatus(`${photo.name}: no face found; take a photo with a face of at least 40 px, turned less than a profile`, true);
        else await choose(found, photos.length > 1, onOpen);
      } catch (error) { onStatus(error.message, true); }
    }
  };
  document.getElementById("add").addEventListener("click", () => file.click());
  file.addEventListener("change", () => { take(file.files); file.value = ""; });
  addEventListener("paste", (event) => take(event.clipboardData.files));
  let depth = 0;
  addEventListener("dragenter", (event) => { if ([...event.dataTransfer.types].includes("Files")) { depth++; drop.hidden = false; } });
  addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); drop.hidden = depth === 0; });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => { event.preventDefault(); depth = 0; drop.hidden = true; take(event.dataTransfer.files); });
}

async function choose(photo, atOnce, onOpen) {
  const open = async (face) => onOpen(await ask(`/api/photos/${photo.key}/open`, { face }));
  if (photo.faces.length === 1 && atOnce) return open(1);
  const dialog = document.getElementById("faces");
  const canvas = document.getElementById("found");
  const choices = document.getElementById("choices");
  document.getElementById("faces-title").textContent = photo.faces.length === 1 ? "Found the face" : `Which of ${photo.faces.length} faces?`;
  const image = new Image();
  image.src = `/api/photos/${photo.key}/preview`;
  await image.decode();
  [canvas.width, canvas.height] = [image.width, image.height];
  const scale = image.width / photo.size[0];
  const draw = (chosen) => {
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    context.lineWidth = Math.max(2, image.width / 350);
    photo.faces.forEach(([left, top, right, bottom], i) => {
      context.strokeStyle = i === chosen ? "#ffb45e" : "#7fe0d3";
      context.strokeRect(left * scale, top * scale, (right - left) * scale, (bottom - top) * scale);
      context.fillStyle = context.strokeStyle;
      for (const [x, y] of photo.points[i]) context.fillRect(x * scale - 1, y * scale - 1, 2.5, 2.5);
      context.font = `bold ${Math.max(16, image.width / 45)}px sans-serif`;
      if (photo.faces.length > 1) context.fillText(`${i + 1}`, left * scale, top * scale - 6);
    });
  };
  draw(0);
  return new Promise((resolve) => {
    const pick = (i) => { dialog.close(); resolve(open(i + 1)); };
    choices.replaceChildren(...photo.faces.map((_, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = photo.faces.length === 1 ? "Edit this face" : `Face ${i + 1}${i === 0 ? " (largest)" : ""}`;
      button.addEventListener("click", () => pick(i));
      button.addEventListener("focus", () => draw(i));
      button.addEventListener("pointerenter", () => draw(i));
      return button;
    }));
    canvas.onclick = (event) => {
      const box = canvas.getBoundingClientRect();
      const [x, y] = [((event.clientX - box.left) / box.width) * photo.size[0], ((event.clientY - box.top) / box.height) * photo.size[1]];
      const hit = photo.faces.findIndex(([left, top, right, bottom]) => x > left && x < right && y > top && y < bottom);
      if (hit >= 0) pick(hit);
    };
    dialog.onclose = () => resolve();
    dialog.showModal();
    choices.firstChild.focus();
  });
}

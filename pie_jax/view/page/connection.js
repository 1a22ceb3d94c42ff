// The server: requests, and the socket whose answers are a header and a picture.

export async function ask(path, body) {
  const options = body === undefined ? {} : body instanceof Blob
    ? { method: "POST", body, headers: { "X-Name": encodeURIComponent(body.name || "photo.jpg") } }
    : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const found = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(found.error || `the server answered ${answer.status}`);
  return found;
}

export async function bytes(path, body) {
  const answer = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json()).error);
  return { blob: await answer.blob(), name: answer.headers.get("X-Name") };
}

export class Socket {
  constructor(onAnswer, onState) {
    this.onAnswer = onAnswer;
    this.onState = onState;
    this.sent = new Map();
    this.seq = 0;
    this.open();
  }

  open() {
    this.socket = new WebSocket(`ws://${location.host}/socket`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.onState(true);
    this.socket.onclose = () => {
      this.onState(false);
      setTimeout(() => this.open(), 1500);
    };
    this.socket.onmessage = (event) => {
      const length = new DataView(event.data).getUint32(0, true);
      const header = JSON.parse(new TextDecoder().decode(new Uint8Array(event.data, 4, length)));
      if (this.sent.has(header.seq)) {
        header.latency = performance.now() - this.sent.get(header.seq);
        for (const seq of this.sent.keys()) if (seq <= header.seq) this.sent.delete(seq);
      }
      this.onAnswer(header, new Uint8Array(event.data, 4 + length));
    };
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return 0;
    this.seq += 1;
    this.sent.set(this.seq, performance.now());
    this.socket.send(JSON.stringify({ ...message, seq: this.seq }));
    return this.seq;
  }
}

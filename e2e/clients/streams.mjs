// WebSocket by ws and server-sent events by eventsource, which open again by
// themselves when a stream ends.
import { EventSource } from "eventsource";
import WebSocket from "ws";

const { socket, events, headers, wrong } = JSON.parse(process.argv[2]);

// talk sends texts and bytes, one after the other, and closes when all are back.
function talk(headers) {
  return new Promise((resolve) => {
    const got = [];
    const sent = ["hello", "Büene ☃", Buffer.alloc(100_000, 7)];
    const ws = new WebSocket(socket, ["echo.v1"], { headers });
    ws.on("open", () => ws.send(sent[0]));
    ws.on("message", (data, binary) => {
      got.push(binary ? `${data.length} bytes of ${data[0]}` : data.toString());
      if (got.length < sent.length) ws.send(sent[got.length]);
      else ws.close(4000, "done");
    });
    ws.on("close", (code, reason) => resolve({ got, protocol: ws.protocol, code, reason: reason.toString() }));
    ws.on("error", (error) => resolve({ error: error.message }));
    ws.on("unexpected-response", (_request, response) => {
      let body = "";
      response.on("data", (chunk) => (body += chunk));
      response.on("end", () => resolve({ status: response.statusCode, reason: response.headers["x-hivegate-reason"], body: JSON.parse(body) }));
    });
  });
}

// listen collects events until one of the type "last", or until the source gives up.
function listen(headers) {
  return new Promise((resolve) => {
    const out = { got: [], opened: 0 };
    const source = new EventSource(events, {
      fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } }),
    });
    const began = performance.now();
    source.onopen = () => out.opened++;
    source.onmessage = (e) => out.got.push({ data: e.data, id: e.lastEventId, ms: performance.now() - began });
    source.addEventListener("last", (e) => {
      source.close();
      resolve({ ...out, last: e.data, id: e.lastEventId });
    });
    source.onerror = (e) => {
      if (source.readyState === EventSource.CLOSED) resolve({ ...out, code: e.code ?? null, message: e.message ?? null });
    };
  });
}

console.log(
  JSON.stringify({
    talked: await talk(headers),
    refusedTalk: await talk(wrong),
    listened: await listen(headers),
    refusedListen: await listen(wrong),
  }),
);
process.exit(0);

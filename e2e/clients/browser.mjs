// What pages see of the gate, in headless Chromium.
import { chromium } from "playwright-core";

const { api, own, page: origin, stranger, key, narrow, limited, cookie } = JSON.parse(process.argv[2]);

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});

// call is fetch as a page has it: everything that the page may read of the answer.
const call = (page, url, init) =>
  page.evaluate(
    async ([url, init]) => {
      try {
        const r = await fetch(url, init);
        const text = await r.text();
        let body = text;
        try {
          body = JSON.parse(text);
        } catch {}
        return { status: r.status, type: r.type, headers: Object.fromEntries(r.headers), body };
      } catch (e) {
        return { failed: e.name };
      }
    },
    [url, init],
  );

// stream reads chunks by fetch, and tells when each arrived.
const stream = (page, url, init) =>
  page.evaluate(
    async ([url, init]) => {
      const reader = (await fetch(url, init)).body.getReader();
      const text = new TextDecoder();
      const began = performance.now();
      const out = [];
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return out;
        out.push({ text: text.decode(value), ms: performance.now() - began });
      }
    },
    [url, init],
  );

const events = (page, url, init) =>
  page.evaluate(
    ([url, init]) =>
      new Promise((resolve) => {
        const got = [];
        const source = new EventSource(url, init);
        source.onmessage = (e) => {
          if (got.push(e.data) < 3) return;
          source.close();
          resolve({ got });
        };
        source.onerror = () => {
          source.close();
          resolve({ got, failed: true });
        };
      }),
    [url, init],
  );

const socket = (page, url) =>
  page.evaluate(
    (url) =>
      new Promise((resolve) => {
        const ws = new WebSocket(url, ["echo.v1"]);
        const out = { got: [] };
        ws.onopen = () => ws.send("hello from a page");
        ws.onmessage = (e) => {
          out.got.push(e.data);
          ws.close(4000, "done");
        };
        ws.onclose = (e) => resolve({ ...out, code: e.code, protocol: ws.protocol });
      }),
    url,
  );

// submit sends a form as a visitor would who clicked, and tells what came.
async function submit(page, url) {
  const [response] = await Promise.all([
    page.waitForNavigation({ waitUntil: "load" }),
    page.evaluate((url) => {
      const form = document.createElement("form");
      form.method = "POST";
      form.action = url;
      document.body.append(form);
      setTimeout(() => form.submit()); // once this script is done: the page goes away
    }, url),
  ]);
  const sent = await response.request().allHeaders();
  return {
    status: response.status(),
    reason: response.headers()["x-hivegate-reason"] ?? null,
    cookie: "cookie" in sent,
    site: sent["sec-fetch-site"] ?? null,
    body: await page.evaluate(() => document.body.innerText),
  };
}

const out = { version: browser.version() };
const open = async (context, url) => {
  const page = await context.newPage();
  await page.goto(url);
  return page;
};
const auth = (k) => ({ headers: { Authorization: `Bearer ${k}`, "X-Client-Info": "page/1" } });

// A page of a listed origin, with a key.
const anonymous = await browser.newContext();
const listed = await open(anonymous, origin);
out.calls = {
  ok: await call(listed, `${api}/farms`, auth(key)),
  posted: await call(listed, `${api}/farms`, {
    method: "POST",
    headers: { ...auth(key).headers, "Content-Type": "application/json" },
    body: '{"name":"x"}',
  }),
  noKey: await call(listed, `${api}/farms`),
  wrongKey: await call(listed, `${api}/farms`, auth("hive_sk_nonsense")),
  noScope: await call(listed, `${api}/farms`, { method: "POST", ...auth(narrow) }),
  notFound: await call(listed, `${api}/v1/api-keys/key_123456789012`, auth(key)),
  // Its preflight is refused, so the browser does not send it.
  noRoute: await call(listed, `${api}/nowhere`, auth(key)),
  first: await call(listed, `${api}/farms`, auth(limited)),
  limited: await call(listed, `${api}/farms`, auth(limited)),
  down: await call(listed, `${api}/down`, auth(key)),
  // Not allowed by the site: the browser stops it at the preflight.
  otherHeader: await call(listed, `${api}/farms`, { headers: { ...auth(key).headers, "X-Not-Listed": "1" } }),
};
out.stream = await stream(listed, `${api}/events`, auth(key));

// A page of another origin: the same calls, none of which it may read.
const unlisted = await open(anonymous, stranger);
out.stranger = {
  withKey: await call(unlisted, `${api}/farms`, auth(key)),
  plain: await call(unlisted, `${api}/farms`),
};

// A visitor with a session: on the gate's own origin, and lured elsewhere.
const visitor = await browser.newContext();
await visitor.addCookies([{ name: cookie.name, value: cookie.value, url: own }]);
const home = await open(visitor, own);
out.own = {
  get: await call(home, "/farms"),
  post: await call(home, "/farms", { method: "POST" }),
  events: await events(home, "/events"),
  socket: await socket(home, own.replace("http", "ws") + "/socket"),
  form: await submit(await open(visitor, own), `${own}/farms`),
};
const elsewhere = await open(visitor, origin); // listed, the same host, another port
out.elsewhere = {
  get: await call(elsewhere, `${own}/farms`, { credentials: "include" }),
  post: await call(elsewhere, `${own}/farms`, { method: "POST", credentials: "include" }),
  noRoute: await call(elsewhere, `${own}/nowhere`, { credentials: "include" }), // needs no preflight
  events: await events(elsewhere, `${own}/events`, { withCredentials: true }),
  socket: await socket(elsewhere, own.replace("http", "ws") + "/socket"),
  form: await submit(await open(visitor, origin), `${own}/farms`),
};
const lure = await open(visitor, stranger); // another site
out.lure = {
  get: await call(lure, `${own}/farms`, { credentials: "include" }),
  form: await submit(await open(visitor, stranger), `${own}/farms`),
  socket: await socket(lure, own.replace("http", "ws") + "/socket"),
};

await browser.close();
console.log(JSON.stringify(out));

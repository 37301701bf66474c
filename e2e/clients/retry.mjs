// Calls the gate through a retrying client until it had to wait once, and tells
// what its caller and what its hooks saw. Each client runs with its own defaults.
import diagnostics from "node:diagnostics_channel";
import axios from "axios";
import axiosRetry from "axios-retry";
import got from "got";
import ky from "ky";
import { Agent, RetryAgent, request } from "undici";

const { client, url, headers, most } = JSON.parse(process.argv[2]);

// refused is what the client was told while the current call ran.
let refused = [];
const note = (status, retryAfter) => refused.push({ status, retryAfter: retryAfter ?? null });

const clients = {
  got() {
    const instance = got.extend({
      headers,
      hooks: { beforeRetry: [(error) => note(error.response?.statusCode, error.response?.headers["retry-after"])] },
    });
    return async () => (await instance(url)).statusCode;
  },
  ky() {
    const instance = ky.create({
      headers,
      hooks: { beforeRetry: [({ error }) => note(error.response?.status, error.response?.headers.get("retry-after"))] },
    });
    return async () => (await instance(url)).status;
  },
  "axios-retry"() {
    const instance = axios.create({ headers });
    axiosRetry(instance, {
      onRetry: (_count, error) => note(error.response?.status, error.response?.headers["retry-after"]),
    });
    return async () => (await instance.get(url)).status;
  },
  "undici RetryAgent"() {
    // It tells nobody about its retries, so its answers are seen on their way in.
    diagnostics.subscribe("undici:request:headers", ({ response }) => {
      if (response.statusCode === 200) return;
      const raw = response.headers.map(String);
      const at = raw.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === "retry-after");
      note(response.statusCode, at < 0 ? null : raw[at + 1]);
    });
    const dispatcher = new RetryAgent(new Agent());
    return async () => {
      const { statusCode, body } = await request(url, { headers, dispatcher });
      await body.dump();
      return statusCode;
    };
  },
};

const call = clients[client]();
const calls = [];
while (calls.length < most && !calls.at(-1)?.refused.length) {
  refused = [];
  const began = performance.now();
  const status = await call();
  calls.push({ status, ms: performance.now() - began, refused });
}
console.log(JSON.stringify({ calls }));
process.exit(0);

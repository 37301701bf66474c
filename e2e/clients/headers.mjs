// How a parser of rate limit headers, and one of structured fields, read ours.
import { parseRateLimit } from "ratelimit-header-parser";
import { parseList } from "structured-headers";

const { url, plain, headers, calls } = JSON.parse(process.argv[2]);

// items turns a structured list into [name, {parameter: value}].
const items = (text) => (text === null ? null : parseList(text).map(([name, params]) => [name, Object.fromEntries(params)]));

const out = [];
for (let i = 0; i < calls; i++) {
  const now = Date.now() / 1000;
  const response = await fetch(plain, { headers });
  await response.arrayBuffer();
  const { limit, used, remaining, reset } = parseRateLimit(response);
  out.push({ status: response.status, now, limit, used, remaining, reset: reset.getTime() / 1000 });
}
const response = await fetch(url, { headers });
await response.arrayBuffer();
console.log(
  JSON.stringify({
    parsed: out,
    rateLimit: items(response.headers.get("ratelimit")),
    policy: items(response.headers.get("ratelimit-policy")),
  }),
);

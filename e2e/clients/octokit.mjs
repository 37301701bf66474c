// Octokit with its throttling plugin, as its manual sets it up, on another API.
import { Octokit } from "@octokit/core";
import { throttling } from "@octokit/plugin-throttling";

const { baseUrl, headers, primary, secondary, secondaryHeaders } = JSON.parse(process.argv[2]);
const told = [];
const handler = (kind) => (retryAfter, options, _octokit, retryCount) => {
  told.push({ kind, retryAfter, url: options.url });
  return retryCount < 1; // once
};
const octokit = new (Octokit.plugin(throttling))({
  baseUrl,
  throttle: { onRateLimit: handler("primary"), onSecondaryRateLimit: handler("secondary") },
  log: { debug() {}, info() {}, warn: console.error, error: console.error },
});

async function calls(path, headers, n) {
  const out = [];
  for (let i = 0; i < n; i++) {
    const began = performance.now();
    const { status } = await octokit.request(`GET ${path}`, { headers });
    out.push({ status, ms: performance.now() - began });
  }
  return out;
}
console.log(
  JSON.stringify({ primary: await calls(primary, headers, 2), secondary: await calls(secondary, secondaryHeaders, 1), told }),
);

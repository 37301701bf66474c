// A server's client with the project's own key, and the same from a browser.
import { createClient } from "@supabase/supabase-js";

// The client wants one to be there, even where nothing subscribes; Node 20 has none.
globalThis.WebSocket ??= class {};

const { url, key } = JSON.parse(process.argv[2]);
const auth = { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false };
const out = {};
for (const [name, headers] of Object.entries({
  server: {},
  origin: { Origin: "https://app.example.com" },
  site: { "Sec-Fetch-Site": "same-origin" },
  cookie: { Cookie: "theme=dark" },
})) {
  const { data, error, status } = await createClient(url, key, { auth, global: { headers } }).from("agents").select("*");
  out[name] = { data: data ?? null, status, code: error?.code ?? null };
}
console.log(JSON.stringify(out));

// Signs in as a page that is rendered on a server does, and prints the cookies
// that it would set, as the browser sends them back.
import { createServerClient, serializeCookieHeader } from "@supabase/ssr";

// The client wants one to be there, even where nothing subscribes; Node 20 has none.
globalThis.WebSocket ??= class {};

const { url, key } = JSON.parse(process.argv[2]);
const out = {};
for (const [name, { email, encoding, encode }] of Object.entries({
  small: { email: "user@example.com", encoding: "base64url" },
  big: { email: "big@example.com", encoding: "base64url" },
  raw: { email: "user@example.com", encoding: "raw" },
  bigRaw: { email: "big@example.com", encoding: "raw" },
  tokensOnly: { email: "user@example.com", encoding: "base64url", encode: "tokens-only" },
})) {
  const jar = new Map();
  const cookies = {
    getAll: () => [...jar].map(([name, value]) => ({ name, value })),
    setAll: (list) => {
      for (const { name, value, options } of list) {
        if (options?.maxAge === 0 || value === "") jar.delete(name);
        else jar.set(name, value);
      }
    },
  };
  if (encode) cookies.encode = encode;
  const client = createServerClient(url, key, { cookies, cookieEncoding: encoding });
  const { data, error } = await client.auth.signInWithPassword({ email, password: "right" });
  if (error) throw error;
  out[name] = {
    token: data.session.access_token,
    names: [...jar.keys()],
    cookie: [...jar].map(([name, value]) => serializeCookieHeader(name, value, {}).split(";")[0]).join("; "),
  };
}
console.log(JSON.stringify(out));

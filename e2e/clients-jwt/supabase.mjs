// What an application does with supabase-js: everything goes to the gate's URL.
import { createClient } from "@supabase/supabase-js";

// The client wants one to be there, even where nothing subscribes; Node 20 has none.
globalThis.WebSocket ??= class {};

const { url, key, expired } = JSON.parse(process.argv[2]);
const auth = { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false };
const out = {};

// told is what an application sees of an answer.
const told = ({ data, error, status }) => ({
  data: data ?? null,
  status: error?.status ?? error?.context?.status ?? status ?? null,
  code: error?.code ?? null,
  message: error?.message ?? null,
});

const client = createClient(url, key, { auth });
out.rowsSignedOut = told(await client.from("agents").select("*"));
out.wrongPassword = told(await client.auth.signInWithPassword({ email: "user@example.com", password: "wrong" }));

const signedIn = await client.auth.signInWithPassword({ email: "user@example.com", password: "right" });
out.signIn = { user: signedIn.data?.user?.id ?? null, message: signedIn.error?.message ?? null };
out.rows = told(await client.from("agents").select("*"));
out.insert = told(await client.from("swarms").insert({ name: "bees" }).select());
out.remove = told(await client.from("swarms").delete().eq("id", 1));
out.count = told(await client.from("messages").select("*", { count: "exact", head: true }));
out.respond = told(await client.functions.invoke("agent-respond", { body: { swarm_id: 1, message: "hi" } }));
out.unknownTable = told(await client.from("secrets").select("*"));
const user = await client.auth.getUser();
out.user = { user: user.data?.user?.id ?? null, message: user.error?.message ?? null };
const fresh = await client.auth.refreshSession();
out.refresh = { changed: fresh.data?.session?.access_token !== signedIn.data?.session?.access_token, message: fresh.error?.message ?? null };
out.signOut = { message: (await client.auth.signOut()).error?.message ?? null };
out.rowsAfterSignOut = told(await client.from("agents").select("*"));

const stale = createClient(url, key, { auth, global: { headers: { Authorization: `Bearer ${expired}` } } });
out.expired = told(await stale.from("agents").select("*"));

console.log(JSON.stringify(out));

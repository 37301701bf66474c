// What an application sees of supabase-js when the gate lets it through, and of
// which class and with which members its errors are when it does not.
import { AuthApiError, createClient, FunctionsHttpError, PostgrestError } from "@supabase/supabase-js";

// The client wants one to be there, even where nothing subscribes; Node 20 has none.
globalThis.WebSocket ??= class {};

const { url, key, expired, most } = JSON.parse(process.argv[2]);
const auth = { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false };
const classes = { AuthApiError, FunctionsHttpError, PostgrestError };

// told is an error as its own class has it.
async function told(error) {
  if (!error) return null;
  const out = { class: Object.keys(classes).find((name) => error.constructor === classes[name]) ?? error.constructor.name };
  for (const name of ["name", "message", "status", "code"]) out[name] = error[name] ?? null;
  if (error instanceof FunctionsHttpError) {
    out.status = error.context.status;
    out.retryAfter = error.context.headers.get("retry-after");
    out.body = await error.context.json();
  }
  return out;
}

// rows selects plainly and with throwOnError: both are in use.
async function rows(client, table) {
  const { data, error, status } = await client.from(table).select("*").retry(false);
  let thrown = null;
  try {
    await client.from(table).select("*").retry(false).throwOnError();
  } catch (e) {
    thrown = await told(e);
  }
  return { data, status, error, thrown };
}
const invoke = async (client, name) => {
  const { data, error } = await client.functions.invoke(name, { body: { message: "hi" } });
  return { data, error: await told(error) };
};

const out = {};
const client = createClient(url, key, { auth });
out.signedOutRows = await rows(client, "agents");
out.signedOutFunction = await invoke(client, "agent-respond");
const signIn = await client.auth.signInWithPassword({ email: "user@example.com", password: "right" });
out.signIn = { user: signIn.data?.user?.id ?? null, error: await told(signIn.error) };
out.rows = await rows(client, "agents");
out.function = await invoke(client, "agent-respond");

const stale = createClient(url, key, { auth, global: { headers: { Authorization: `Bearer ${expired}` } } });
out.expiredRows = await rows(stale, "agents");
out.expiredFunction = await invoke(stale, "agent-respond");
const session = await client.auth.setSession({ access_token: expired, refresh_token: "refresh-0123456789" });
out.expiredSession = { refreshed: session.data?.session?.access_token !== expired, error: await told(session.error) };
out.expiredUser = { error: await told((await client.auth.getUser(expired)).error) };

// The admin API, which is for servers alone, and a key that is none.
out.adminOfUser = { error: await told((await client.auth.admin.listUsers()).error) };
const nobody = createClient(url, "sb_publishable_nobodys0", { auth });
out.wrongKey = await rows(nobody, "agents");
out.wrongKeySignIn = { error: await told((await nobody.auth.signInWithPassword({ email: "a@b.c", password: "right" })).error) };

// until repeats a call until it fails.
async function until(call, failed) {
  for (let passed = 0; passed < most; passed++) {
    const got = await call();
    if (failed(got)) return { passed, ...got };
  }
  return { passed: most };
}
out.limitedFunction = await until(
  () => invoke(client, "agent-respond"),
  (r) => r.error,
);
out.limitedSignIn = await until(
  async () => ({ error: await told((await client.auth.signInWithPassword({ email: "user@example.com", password: "right" })).error) }),
  (r) => r.error,
);
// Selects have a limit of their own.
out.limitedRows = await until(
  async () => {
    const { error, status } = await client.from("agents").select("*").retry(false);
    return { error, status };
  },
  (r) => r.error,
);
out.limitedRows.thrown = (await rows(client, "agents")).thrown;
console.log(JSON.stringify(out));

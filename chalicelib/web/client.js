// The service as a page sees it: signing in, calls, and what is heard over the websocket.
// It must not show anything.

const here = new URL(".", document.baseURI).href;

/** What the service refused, in a person's words where there are some. */
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail ?? body.title ?? `HTTP ${status}`);
    this.status = status;
    this.type = (body.type ?? "").replace("urn:dialtone:problem:", "");
    this.faults = body.faults ?? [];
    this.usedBy = body.used_by ?? {};
    this.retryAfterSeconds = retryAfter ? Number(retryAfter) : null;
  }
}

export const events = new EventTarget();

function tell(name, detail) {
  events.dispatchEvent(new CustomEvent(name, { detail }));
}

let config = null;
/** Tell how this deployment is set up, see GET /config.json. */
export async function configuration() {
  config ??= await (await fetch(`${here}config.json`)).json();
  return config;
}

// Signing in: OpenID Connect, authorization code with PKCE. Tokens are in memory alone.

let tokens = null;
let provider = null;
let renewing = null;

async function issuer() {
  if (!provider) {
    const { issuer: url } = await configuration();
    provider = await (await fetch(`${url.replace(/\/$/, "")}/.well-known/openid-configuration`)).json();
  }
  return provider;
}

function drawn(bytes = 32) {
  return encoded(crypto.getRandomValues(new Uint8Array(bytes)));
}

function encoded(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** Go to the issuer's page; comes back to this one, and to where the person was. */
export async function signIn() {
  const { address, ...begun } = await begin("");
  sessionStorage.setItem("signing-in", JSON.stringify({ ...begun, where: location.hash }));
  location.assign(address);
}

const BESIDE = "beside.";
const TAKEN_MS = 2000;
let beside = null;

/** Sign the same person in again in a window beside this one, so that all that was typed stays. */
export async function signInBeside() {
  const opened = window.open("", "_blank", "popup,width=480,height=640");
  if (!opened) return signIn(); // it was blocked
  beside?.close();
  const { address, verifier, state } = await begin(BESIDE);
  const channel = (beside = new BroadcastChannel("sign-in"));
  channel.onmessage = async ({ data }) => {
    if (data.answer?.state !== state) return;
    channel.postMessage({ taken: state });
    channel.close();
    try {
      await take(data.answer, verifier);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      return tell("signed-out", error);
    }
    tell("signed-in");
    // connected anew, the page reads what it could not read meanwhile
    hangUp();
    listen();
  };
  opened.location.replace(address);
}

/** In the window beside: hand the issuer's answer to the page that waits for it. */
async function handOver(answer) {
  const channel = new BroadcastChannel("sign-in");
  const isTaken = new Promise((resolve) => {
    channel.onmessage = ({ data }) => data.taken === answer.state && resolve(true);
    setTimeout(resolve, TAKEN_MS, false);
  });
  channel.postMessage({ answer });
  if (!(await isTaken)) throw new Problem(0, { type: "sign-in-forgotten" });
  window.close();
  throw new Problem(0, { type: "signed-in-beside" }); // where a window may not close itself
}

async function begin(prefix) {
  const { client_id } = await configuration();
  const { authorization_endpoint } = await issuer();
  const verifier = drawn();
  const state = prefix + drawn(16);
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const query = new URLSearchParams({
    response_type: "code",
    client_id,
    redirect_uri: here,
    scope: "openid profile",
    state,
    code_challenge: encoded(new Uint8Array(hash)),
    code_challenge_method: "S256",
  });
  return { verifier, state, address: `${authorization_endpoint}?${query}` };
}

/** Take the answer of the issuer's page, if this is one; says why not if it refused. */
export async function finishSignIn() {
  const answer = Object.fromEntries(new URLSearchParams(location.search));
  if (!answer.state) return;
  const begun = JSON.parse(sessionStorage.getItem("signing-in") ?? "null");
  sessionStorage.removeItem("signing-in");
  history.replaceState(null, "", here + (begun?.where ?? ""));
  if (answer.state.startsWith(BESIDE)) return handOver(answer);
  if (begun?.state !== answer.state) throw new Problem(0, { type: "sign-in-forgotten" });
  await take(answer, begun.verifier);
}

/** Take the tokens that an answer of the issuer is good for. */
async function take({ code, error }, verifier) {
  if (error) throw new Problem(0, { type: "sign-in-refused" });
  const { client_id } = await configuration();
  await exchange({
    grant_type: "authorization_code",
    code,
    redirect_uri: here,
    client_id,
    code_verifier: verifier,
  });
}

async function exchange(parameters) {
  const { token_endpoint } = await issuer();
  const answer = await fetch(token_endpoint, { method: "POST", body: new URLSearchParams(parameters) });
  if (!answer.ok) throw new Problem(0, { type: "sign-in-refused" });
  const { id_token, refresh_token } = await answer.json();
  const { exp, sub } = JSON.parse(atob(id_token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
  // what is on the page is the first person's
  if (tokens && tokens.of !== sub) throw new Problem(0, { type: "sign-in-other" });
  tokens = { id: id_token, of: sub, refresh: refresh_token ?? tokens?.refresh ?? null, endsAt: exp * 1000 };
}

const SOON_MS = 60_000;

/** Tell the person's token, renewed when its end is near; null if there is none. */
async function token() {
  if (tokens && tokens.endsAt - Date.now() < SOON_MS && tokens.refresh) {
    renewing ??= renew().finally(() => (renewing = null));
    await renewing;
  }
  return tokens && tokens.endsAt > Date.now() ? tokens.id : null;
}

async function renew() {
  const { client_id } = await configuration();
  try {
    await exchange({ grant_type: "refresh_token", refresh_token: tokens.refresh, client_id });
    tell("signed-in");
  } catch (error) {
    if (!(error instanceof Problem)) return; // no network: the next call tries again
    tokens.refresh = null;
  }
}

export function isSignedIn() {
  return tokens !== null;
}

/** Forget the person, here and at the issuer. */
export async function signOut() {
  const { client_id } = await configuration();
  const { end_session_endpoint } = await issuer();
  const hint = tokens?.id;
  tokens = null;
  hangUp();
  if (!end_session_endpoint) return location.assign(here);
  const query = new URLSearchParams({
    client_id,
    post_logout_redirect_uri: here,
    logout_uri: here, // as Amazon Cognito calls the same
    ...(hint ? { id_token_hint: hint } : {}),
  });
  location.assign(`${end_session_endpoint}?${query}`);
}

// Calls.

/** Call the service; answers the JSON, text for what is none, null for nothing.
 *  A POST that is repeated with the same `key` is done once. */
export async function call(method, path, wanted = {}) {
  const answer = await answered(method, path, wanted);
  if (answer.status === 204) return null;
  return isJson(answer) ? answer.json() : answer.text();
}

/** Read a page that is text; tells the query of the next one, null at the end. */
export async function textPage(path, query) {
  const answer = await answered("GET", path, { query });
  const link = /<[^>?]*\?([^>]*)>;\s*rel="next"/.exec(answer.headers.get("Link") ?? "");
  return { text: await answer.text(), next: link && Object.fromEntries(new URLSearchParams(link[1])) };
}

async function answered(method, path, { body, query, key, file }) {
  const url = new URL(path.replace(/^\//, ""), here);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = {};
  const held = await token();
  if (held) headers.Authorization = `Bearer ${held}`;
  if (key) headers["Idempotency-Key"] = key;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (file) headers["Content-Type"] = "application/octet-stream";
  let answer;
  try {
    answer = await fetch(url, { method, headers, body: file ?? (body === undefined ? undefined : JSON.stringify(body)) });
  } catch {
    throw new Problem(0, { type: "unreachable" });
  }
  if (answer.ok) return answer;
  const told = isJson(answer) ? await answer.json() : {};
  const problem = new Problem(answer.status, told, answer.headers.get("Retry-After"));
  if (problem.status === 401) tell("signed-out");
  throw problem;
}

function isJson(answer) {
  return (answer.headers.get("Content-Type") ?? "").includes("json");
}

/** Read a whole list, page by page. */
export async function* pages(path, query = {}) {
  let cursor = null;
  do {
    const page = await call("GET", path, { query: { ...query, cursor } });
    yield page;
    cursor = page.next;
  } while (cursor);
}

export function newKey() {
  return crypto.randomUUID();
}

// What is heard: one websocket, opened again with growing pauses.

const QUIET_MS = 5 * 60_000;
const PAUSES_MS = [500, 1000, 2000, 5000, 10_000, 30_000];
let socket = null;
let tries = 0;
let again = null;
let isHeard = false;

/** Tell whether what changes is heard at this moment. */
export function isConnected() {
  return isHeard;
}

/** Listen to what concerns the person; `events` brings "heard", "connected" and "disconnected". */
export async function listen() {
  const { websocket_url } = await configuration();
  const held = await token();
  if (!websocket_url || socket) return;
  if (!held) {
    if (tokens?.refresh) listenLater();
    else if (tokens) tell("signed-out");
    return;
  }
  const opened = (socket = new WebSocket(websocket_url));
  let beat = null;
  let isAwaited = false;
  opened.onopen = () => opened.send(JSON.stringify({ mt: "UserLogin", token: held }));
  opened.onmessage = (message) => {
    const told = JSON.parse(message.data);
    if (told.mt === "UserLoginResult" && told.ok) {
      tries = 0;
      isHeard = true;
      beat = setInterval(() => {
        // a connection that died in silence takes all that is sent and answers nothing
        if (isAwaited) return opened.close(), lost();
        isAwaited = true;
        opened.send('{"mt":"KeepAlive"}');
      }, QUIET_MS);
      tell("connected");
    } else if (told.mt === "KeepAliveResult") {
      isAwaited = false;
    } else if (told.mt === "UserLoginResult") {
      // to try again with the same token would be refused again
      hangUp();
      tell("signed-out");
    } else {
      tell("heard", told);
    }
  };
  const lost = (opened.onclose = () => {
    clearInterval(beat);
    if (socket !== opened) return;
    socket = null;
    isHeard = false;
    tell("disconnected");
    listenLater();
  });
}

function listenLater() {
  const pause = PAUSES_MS[Math.min(tries, PAUSES_MS.length - 1)];
  tries += 1;
  clearTimeout(again);
  again = setTimeout(listen, pause * (0.5 + Math.random()));
}

function hangUp() {
  clearTimeout(again);
  const opened = socket;
  socket = null;
  isHeard = false;
  // one that is still being opened cannot be closed without a complaint
  if (opened?.readyState === WebSocket.CONNECTING) opened.onopen = () => opened.close();
  else opened?.close();
}

globalThis.addEventListener("online", () => {
  clearTimeout(again);
  listen();
});

// The control API of the sandbox: the secret of this launch comes in the address's fragment, once.

const KEY = "firedoor-sandbox-secret";

if (location.hash.length > 1) {
  sessionStorage.setItem(KEY, location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}

async function request(method, path, body) {
  const headers = { authorization: `Bearer ${sessionStorage.getItem(KEY) || ""}`, "content-type": "application/json" };
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    return { ok: false, error: "gone", why: "The sandbox does not answer: is it still running?" };
  }
  return answer.json();
}

export const post = (path, body = {}) => request("POST", path, body);
export const faultsOver = () => request("DELETE", "/sandbox/faults");
export const extra = (name, body = {}) => post(`/sandbox/extras/${name}`, body);

// The cookie is for the feed and for pictures, which send no header.
export const session = () => post("/sandbox/session");

// Tells `state` (the whole screen) and `change`; comes back by itself when the line was cut.
export function follow(viewer, tell) {
  const feed = new EventSource(`/sandbox/feed?viewer=${encodeURIComponent(viewer)}`);
  for (const kind of ["state", "change"]) feed.addEventListener(kind, (event) => tell(kind, JSON.parse(event.data)));
  return feed;
}

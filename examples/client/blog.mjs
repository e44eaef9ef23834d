// A client of the blog that speaks Yjs: shows the posts as they change, and writes one if asked to.
//
//   node blog.mjs                     shows posts until Ctrl-C
//   node blog.mjs write "A title"     writes a post, and ends when it is saved
import WebSocket from "ws";
import { WebsocketProvider } from "y-websocket";
import * as Y from "yjs";

const [command, title] = process.argv.slice(2);
const server = process.env.HOST ?? "ws://127.0.0.1:3913/rooms";

const doc = new Y.Doc();
const posts = doc.getArray("table:posts");
const provider = new WebsocketProvider(server, "blog", doc, {
  WebSocketPolyfill: WebSocket,
  disableBc: true,
});
provider.on("connection-error", () => console.error(`no server at ${server} yet`));

provider.once("sync", () => {
  if (command === "write") {
    write({ id: crypto.randomUUID(), title: title ?? "From Yjs", _v: 1 });
  } else {
    show();
    posts.observe(show);
  }
});

// A table is an array of entries. To set a row: delete its entry and push the new one, together.
function write(row) {
  doc.transact(() => {
    const old = posts.toArray().findIndex((entry) => entry.key === row.id);
    if (old >= 0) posts.delete(old);
    posts.push([{ key: row.id, val: row, ts: Date.now() }]);
  });
  // The server answers a status once everything before it is on disk.
  const status = Uint8Array.of(102, 1, 1);
  provider.ws.addEventListener("message", ({ data }) => {
    if (new Uint8Array(data)[0] === 102) {
      console.log(`saved ${row.title}`);
      provider.destroy();
      process.exit(0);
    }
  });
  provider.ws.send(status);
}

function show() {
  console.log(`\n${posts.length} in the document at ${new Date().toLocaleTimeString()}`);
  for (const { key, val } of posts) {
    console.log(`  ${key.slice(0, 8).padEnd(8)}  v${val._v ?? "-"}  ${val.title}`);
  }
}

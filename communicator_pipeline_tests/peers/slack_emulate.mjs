// Starts `emulate`'s Slack on a port, with what its command line cannot set up.
//
// Belongs here: an event subscription (it can be made only in the process itself), and
// users.conversations, which it lacks: asked for, it answers as conversations.list.
// Does not belong here: what is tested (test_slack_emulate.py).
//
//   node slack_emulate.mjs PORT SEED.json EVENTS_URL
import { readdirSync, readFileSync } from "node:fs";

const [port, seedFile, eventsUrl] = process.argv.slice(2);
const dist = new URL("./node_modules/emulate/dist/", import.meta.url);

async function slackPlugin() {
  for (const name of readdirSync(dist).filter((file) => /^dist-.*\.js$/.test(file))) {
    if (!readFileSync(new URL(name, dist), "utf8").includes("slackPlugin")) continue;
    const module = await import(new URL(name, dist));
    if (module.slackPlugin) return module.slackPlugin;
  }
  throw new Error("this version of emulate keeps its Slack elsewhere");
}

const plugin = await slackPlugin();
const register = plugin.register.bind(plugin);
plugin.register = (app, store, webhooks, ...rest) => {
  register(app, store, webhooks, ...rest);
  app.post("/api/users.conversations", async (c) => {
    const url = c.req.url.replace("users.conversations", "conversations.list");
    const headers = Object.fromEntries(c.req.raw.headers);
    return app.fetch(new Request(url, { method: "POST", headers, body: await c.req.text() }));
  });
  webhooks.register({ url: eventsUrl, events: ["*"], active: true, owner: "slack" });
};

const { createEmulator } = await import(new URL("api.js", dist));
const seed = JSON.parse(readFileSync(seedFile, "utf8"));
// Files are given under its base URL: the one that is asked, not "localhost".
const baseUrl = `http://127.0.0.1:${port}`;
await createEmulator({ service: "slack", port: Number(port), seed, baseUrl });

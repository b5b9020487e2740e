// Starts `telegram-test-api` on a port, with the one method that it lacks and we need.
//
// Belongs here: getChat, which answers for every person (positive numbers) as a private chat.
// Does not belong here: what is tested (test_telegram_bot_peer.py).
//
//   node telegram_test_api.mjs PORT
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { routes } = require("telegram-test-api/lib/routes/index.js");
const { TelegramServer } = require("telegram-test-api/lib/telegramServer.js");

// In front, for the last of its own routes takes every method.
routes.unshift((app) => {
  app.post("/bot:token/getChat", (request, response) => {
    const id = request.body.chat_id;
    if (id > 0) response.json({ ok: true, result: { id, type: "private", first_name: "Maya" } });
    else {
      const description = "Bad Request: chat not found";
      response.status(400).json({ ok: false, error_code: 400, description });
    }
  });
});

const server = new TelegramServer({ host: "127.0.0.1", port: Number(process.argv[2]) });
await server.start();

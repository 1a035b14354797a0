// A sample web app without dependencies: logs each request as JSON, stops cleanly on SIGTERM.
"use strict";

const http = require("node:http");

const port = Number(process.env.PORT);
if (!Number.isInteger(port) || port < 1) {
  console.error("PORT: expected the number of a port to listen on");
  process.exit(1);
}

function log(level, msg, fields) {
  const line = JSON.stringify({ level, msg, ...fields });
  (level === "warn" ? process.stderr : process.stdout).write(line + "\n");
}

function route(method, path) {
  if (method === "POST") return [201, "created\n"];
  if (path === "/") return [200, "hello from node-web\n"];
  if (path.startsWith("/orders") || path === "/search") return [200, "one order, two lines, 59.90 €\n".repeat(20)];
  return [404, "nothing here\n"];
}

const server = http.createServer((request, response) => {
  const begun = process.hrtime.bigint();
  const { method, url } = request;
  const [status, body] = route(method, url.split("?", 1)[0]);
  request.resume(); // discards the body, which has to be read
  if (status === 404) log("warn", `no route matches ${method} ${url}`);
  response.on("finish", () => {
    const ms = Number(process.hrtime.bigint() - begun) / 1e6;
    log("info", `${method} ${url} → ${status}`, { status, ms, request_id: request.headers["x-request-id"] });
  });
  response.writeHead(status, { "Content-Type": "text/plain; charset=utf-8", "Content-Length": Buffer.byteLength(body) });
  response.end(method === "HEAD" ? undefined : body);
});

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => {
    log("info", `got ${signal}, stopping`);
    server.close(() => log("info", "stopped"));
    server.closeIdleConnections();
  });
}

server.listen(port, "0.0.0.0", () => log("info", `listening on port ${port}`));

// `npm run build && npm run mock`: the page with scripted sessions, for work on the page alone.

import { startMock } from "./server.mjs";

const port = Number(process.argv[2] ?? 7979);
const mock = await startMock({ port, pace: 250 });
process.stdout.write(`open ${mock.url}/login#one-time-code\n`);

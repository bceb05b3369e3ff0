import { mount } from "svelte";

import App from "./components/App.svelte";
import { app } from "./lib/app.svelte.ts";
import { clock } from "./lib/clock.svelte.ts";
import { router } from "./lib/router.svelte.ts";
import "./styles/tokens.css";
import "./styles/base.css";

const target = document.getElementById("app");
if (!target) throw new Error("index.html has no element #app");

router.start();
clock.start();
mount(App, { target });
void app.start();

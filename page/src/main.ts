import { mount, unmount } from "svelte";
import App from "./App.svelte";
import { live } from "./live.svelte";
import "./page.css";
import type { Document } from "./trace/document";
import { Trace } from "./trace/trace";
import { view } from "./view.svelte";
import { t } from "./words/catalogue";

/** The language in which the page opens: what its maker said, or else the browser's. */
function language(said: string | undefined): "zh" | "en" {
  if (said === "zh" || said === "en") return said;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

function say(target: HTMLElement, text: string): void {
  const paragraph = document.createElement("p");
  paragraph.textContent = text;
  paragraph.setAttribute("role", "alert");
  target.replaceChildren(paragraph);
}

async function start(): Promise<void> {
  const target = document.getElementById("app");
  const data = document.getElementById("trace");
  if (!target) return;
  view.language = language(data?.dataset["language"]);
  document.documentElement.lang = view.language;
  const text = data?.textContent ?? "";
  if (!text.trim()) return say(target, t("page.empty"));
  say(target, t("page.opening"));
  try {
    const given = JSON.parse(text) as Document;
    if (given.format !== "hexapla-trace" || given.version !== 1) return say(target, t("page.newer", given.version));
    const trace = await Trace.open(given);
    target.replaceChildren();
    let app: ReturnType<typeof mount> | undefined;
    if (data?.dataset["live"] === "true") {
      const languages = (data.dataset["languages"] ?? "").split(" ").filter(Boolean);
      live.start(given, languages, async (document) => {
        const next = await Trace.open(document);
        const { scrollX, scrollY } = window;
        if (app) await unmount(app);
        app = mount(App, { target, props: { trace: next } });
        scrollTo(scrollX, scrollY);
      });
    }
    app = mount(App, { target, props: { trace } });
    document.documentElement.dataset["ready"] = "true";
  } catch (error) {
    say(target, t("page.broken", String(error)));
  }
}

void start();

import { type ChildProcess, spawn } from "node:child_process";
import { AxeBuilder } from "@axe-core/playwright";
import { type Browser, type Page, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PROGRAM, SENTENCE } from "./explain";

let browser: Browser;
let server: ChildProcess;
let address: string;

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: process.env["HEXAPLA_CHROMIUM"] ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
  server = spawn(PROGRAM, ["explain", SENTENCE, "--serve", "--to", "en", "--ui", "en"], { stdio: ["ignore", "pipe", "ignore"] });
  address = await new Promise<string>((resolve, reject) => {
    let said = "";
    server.stdout?.on("data", (data) => {
      said += String(data);
      if (said.includes("\n")) resolve(said.trim());
    });
    server.on("exit", () => reject(new Error(`the program ended: ${said}`)));
  });
}, 120_000);

afterAll(async () => {
  server.removeAllListeners("exit");
  server.kill();
  await browser.close();
});

async function open(settings: { width?: number; dark?: boolean; language?: "zh" | "en" } = {}): Promise<{ page: Page; errors: string[]; close: () => Promise<void> }> {
  const context = await browser.newContext({ viewport: { width: settings.width ?? 1280, height: 900 }, colorScheme: settings.dark ? "dark" : "light" });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) errors.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith("data:")) errors.push(`asked for ${request.url()}`);
  });
  page.on("dialog", (dialog) => {
    errors.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(`${address}#lang=${settings.language ?? "en"}`);
  await page.waitForSelector("html[data-ready]");
  return { page, errors, close: () => context.close() };
}

/** Types another text and waits until the page is about it. */
async function say(page: Page, text: string): Promise<void> {
  await page.locator("#live-text").fill(text);
  await page.locator("#live-text").press("Enter");
  await done(page);
}

/** Waits for the answer. */
async function done(page: Page): Promise<void> {
  await expect.poll(() => page.locator("#live-go").isEnabled()).toBe(true);
}

describe("the live page", () => {
  it("translates another text, and keeps what has the keyboard", async () => {
    const { page, errors, close } = await open();
    expect(await page.locator("#result").innerText()).toContain("I saw your brother in the library yesterday.");
    await say(page, "狗咬了猫。");
    await expect.poll(() => page.locator("#result .output").innerText()).toContain("dog");
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("live-text");
    expect(await page.title()).toContain("狗咬了猫。");
    await page.locator("#live-text").fill("Good morning.");
    await page.locator("#result select").selectOption("de");
    await page.locator("#live-go").click();
    await expect.poll(() => page.locator("#result .output").innerText()).toBe("Guten Morgen!");
    expect(errors).toEqual([]);
    await close();
  });

  it("changes the model, says what is changed, and undoes it", async () => {
    const { page, errors, close } = await open();
    const before = await page.locator("#result .output").innerText();
    await page.locator("#whatif").getByLabel("no residual connections").click();
    await done(page);
    await expect.poll(() => page.locator("#result .before").innerText()).toContain(before);
    expect(await page.locator("#result .output").innerText()).not.toBe(before);
    expect(await page.evaluate(() => document.activeElement?.id)).toBe("live-without_residual");
    await page.locator("#live-undo").click();
    await expect.poll(() => page.locator("#result .output").innerText()).toBe(before);
    // A head, a token, and both at once.
    await page.locator("#whatif fieldset").nth(1).getByRole("checkbox").last().click();
    await done(page);
    await page.locator("#live-hide-3").click();
    await done(page);
    await expect.poll(() => page.locator("#result li").count()).toBe(3);
    await page.locator("#result li button").first().click();
    await done(page);
    await expect.poll(() => page.locator("#result li").count()).toBe(2);
    await page.locator("#live-undo").click();
    await expect.poll(() => page.locator("#result li").count()).toBe(0);
    // Another token at the first step.
    await page.locator("#output form button").click();
    await done(page);
    await expect.poll(() => page.locator("#result .before").innerText()).toContain(before);
    expect(errors).toEqual([]);
    await close();
  });

  it("takes a row from another sentence", async () => {
    const { page, errors, close } = await open();
    await say(page, "狗咬了猫。");
    await expect.poll(() => page.locator("#result .output").innerText()).toContain("dog");
    await page.locator("#live-other").fill("猫咬了狗。");
    await page.locator("#live-other").press("Enter");
    await done(page);
    await expect.poll(() => page.locator("#result li").count()).toBe(2);
    expect(errors).toEqual([]);
    await close();
  });

  it("shows hostile text as text, and errors as words", async () => {
    const { page, errors, close } = await open();
    for (const text of ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a\u202eb\u0000c 👩‍👩‍👧‍👦", "word ".repeat(10_000)]) {
      await say(page, text);
      expect(await page.locator("#result pre").count(), text.slice(0, 30)).toBe(0);
      expect(await page.locator("main script, main img").count()).toBe(0);
    }
    expect(errors).toEqual([]);
    await say(page, " ");
    await expect.poll(() => page.locator("#result pre").innerText()).toContain("expected");
    await say(page, "x".repeat(70_000));
    await expect.poll(() => page.locator("#result pre").innerText()).toContain("65536");
    await say(page, "Ja.");
    await expect.poll(() => page.locator("#result pre").count()).toBe(0);
    // The browser tells of the refused requests itself.
    expect(errors.filter((error) => !error.includes("status of 4"))).toEqual([]);
    await close();
  });

  for (const language of ["zh", "en"] as const)
    for (const dark of [false, true])
      for (const width of [1280, 390])
        it(`is accessible: ${language}, ${dark ? "dark" : "light"}, ${width} wide`, async () => {
          const { page, errors, close } = await open({ language, dark, width });
          await page.locator("#live-keys_are_queries").click();
          await done(page);
          const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          expect(wide).toBeLessThanOrEqual(1);
          const found = await new AxeBuilder({ page }).withTags(["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]).analyze();
          const serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical");
          expect(serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => node.html).join(" | ")}`)).toEqual([]);
          expect(errors).toEqual([]);
          await close();
        });
});

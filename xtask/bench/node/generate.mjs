// Going on with prompts, with llama.cpp.
//
//     node generate.mjs JOB.json [BATCH]
//
// BATCH is how many tokens go through the model together, all where it is absent. `model` is the folder `smol` of make_generator.py. See ../README.md for the protocol.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

const job = JSON.parse(readFileSync(process.argv[2], "utf8"));
const file = { float32: "F32", int8: "Q8_0", int4: "Q4_0" }[job.compute_type];
const version = JSON.parse(readFileSync(join(import.meta.dirname, "node_modules/node-llama-cpp/package.json"), "utf8")).version;

const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: join(job.model, `${file}.gguf`) });
const longest = Math.max(job.longest_text, ...job.prompts.map((prompt) => prompt.length + job.new_tokens + 1));
const context = await model.createContext({
  contextSize: longest,
  sequences: job.prompts.length,
  batchSize: Number(process.argv[3]) || Math.max(job.longest_text, job.prompts.flat().length),
  threads: { ideal: job.threads, min: job.threads },
});
const sequences = job.prompts.map(() => context.getSequence());
// The likeliest token each time, and none ends a text.
const settings = { temperature: 0, yieldEogToken: true, contextShift: { size: 1 } };

async function seconds(work) {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

const all = (work) => Promise.all(sequences.map((sequence, i) => work(sequence, job.prompts[i])));

/** Reads all but the last `left` tokens of each prompt. */
const read = (left) =>
  all(async (sequence, prompt) => {
    await sequence.clearHistory();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt.slice(0, prompt.length - left));
  });

/** Decodes `count` tokens behind the last of each prompt. */
const decode = (count, given) =>
  all(async (sequence, prompt) => {
    let tokens = 0;
    for await (const _ of sequence.evaluate(prompt.slice(prompt.length - given), settings)) {
      if (++tokens === count) break;
    }
    if (tokens !== count) throw new Error(`${tokens} tokens for ${count}`);
  });

/** −ln p a token. */
async function loss(text) {
  const sequence = sequences[0];
  await sequence.clearHistory();
  const options = { generateNext: { probabilities: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } };
  const found = await sequence.controlledEvaluate(text.slice(0, -1).map((token) => [token, options]));
  const losses = found.map((output, i) => -Math.log(output.next.probabilities.get(text[i + 1])));
  return losses.reduce((sum, one) => sum + one, 0) / losses.length;
}

async function answer(command) {
  if (command === "losses") {
    const losses = [];
    for (const text of job.texts) losses.push(await loss(text));
    return { losses };
  }
  const streams = job.prompts.length;
  if (job.new_tokens > 0) {
    await read(1);
    return { seconds: await seconds(() => decode(job.new_tokens, 1)), tokens: streams * job.new_tokens };
  }
  await all((sequence) => sequence.clearHistory());
  const tokens = job.prompts.reduce((sum, prompt) => sum + prompt.length, 0);
  return { seconds: await seconds(() => decode(1, job.longest_text)), tokens };
}

/** The greatest and the present resident size of this process, in MiB. */
function memory() {
  const status = readFileSync("/proc/self/status", "utf8");
  const mib = (name) => Number(status.match(new RegExp(`${name}:\\s+(\\d+)`))[1]) / 1024;
  return { peak_mib: mib("VmHWM"), resident_mib: mib("VmRSS") };
}

console.log(JSON.stringify({ ready: true, version }));
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ ...(await answer(line.trim())), ...memory() }));
}
process.exit(0);

// A session of the unmodified OpenAI SDK for Node: each method once; prints the version and what came of it as JSON.
// Run as `node sdk_session.mjs BASE_URL FILM`, in a folder where `npm install openai` was run.
import assert from "node:assert/strict";
import fs from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.cwd() + "/");
const { default: OpenAI } = require("openai");
const { version } = JSON.parse(fs.readFileSync("node_modules/openai/package.json"));
const [baseURL, film] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none" });
const few = { seed: 3, num_inference_steps: 2 };
const kept = {};

const finished = async (video) => {
  while (["queued", "in_progress"].includes(video.status)) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    video = await client.videos.retrieve(video.id);
  }
  assert.equal(video.status, "completed", JSON.stringify(video.error));
  return video;
};

const steps = {
  async create() {
    kept.video = await client.videos.create({ prompt: "a red ball", seconds: "1", size: "48x32", ...few });
    assert.equal(kept.video.object, "video");
  },
  async retrieve() {
    kept.video = await finished(kept.video);
    assert.deepEqual([kept.video.seconds, kept.video.size, kept.video.progress], ["1", "48x32", 100]);
  },
  async list() {
    const ids = [];
    for await (const video of client.videos.list({ limit: 1, order: "asc" })) ids.push(video.id);
    assert.deepEqual(ids, [kept.video.id]);
  },
  async downloadContent() {
    for (const [variant, begin] of [["video", "ftyp"], ["thumbnail", "WEBP"], ["spritesheet", "\xff\xd8\xff"]]) {
      const reply = await client.videos.downloadContent(kept.video.id, { variant });
      const head = Buffer.from(await reply.arrayBuffer()).subarray(0, 16).toString("latin1");
      assert.ok(head.includes(begin), variant);
    }
  },
  async remix() {
    const made = await client.videos.remix(kept.video.id, { prompt: "a blue ball", ...few });
    assert.equal(made.remixed_from_video_id, kept.video.id);
    await finished(made);
  },
  async edit() {
    await finished(await client.videos.edit({ prompt: "a green ball", video: fs.createReadStream(film), ...few }));
  },
  async edit_by_id() {
    await finished(await client.videos.edit({ prompt: "a green ball", video: { id: kept.video.id }, ...few }));
  },
  async extend() {
    const made = await client.videos.extend({ prompt: "on", seconds: "1", video: { id: kept.video.id }, ...few });
    assert.equal((await finished(made)).seconds, "2");
  },
  async createCharacter() {
    kept.character = await client.videos.createCharacter({ name: "Rollo", video: fs.createReadStream(film) });
  },
  async getCharacter() {
    assert.equal((await client.videos.getCharacter(kept.character.id)).name, "Rollo");
  },
  async delete() {
    assert.equal((await client.videos.delete(kept.video.id)).deleted, true);
  },
  async errors() {
    await assert.rejects(client.videos.retrieve(kept.video.id), OpenAI.NotFoundError);
    const bad = client.videos.create({ prompt: "p", seconds: "nothing" });
    await assert.rejects(bad, (error) => error instanceof OpenAI.BadRequestError && error.param === "seconds");
  },
};

const said = {};
for (const [name, step] of Object.entries(steps)) {
  said[name] = await step().then(() => "ok", (error) => String(error));
}
console.log(JSON.stringify({ version, steps: said }));

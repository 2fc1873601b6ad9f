// Node's own fetch, or axios: fetch|axios ADDRESS golden FILE | fetch|axios ADDRESS large TIMES
import { readFileSync } from "node:fs";

const [client, address, task, argument] = process.argv.slice(2);
const headers = { "Content-Type": "application/json" };

async function withFetch(path, body) {
  const answer = await fetch(`http://${address}${path}`, { method: "POST", headers, body });
  return [answer.status, answer.status === 200 ? await answer.json() : await answer.text()];
}

async function withAxios(path, body) {
  const { default: axios } = await import("axios");
  const options = { headers, maxBodyLength: Infinity, validateStatus: () => true };
  const answer = await axios.post(`http://${address}${path}`, body, options);
  return [answer.status, answer.data];
}

const post = client === "fetch" ? withFetch : withAxios;
if (task === "large") {
  for (let i = 0; i < Number(argument); i++) {
    console.log((await post("/predict", Buffer.alloc(20_000_000)))[0]);
    console.log((await post("/predict/batch", Buffer.alloc(40_000_000)))[0]);
  }
} else {
  const bits = new DataView(new ArrayBuffer(8));
  for (const line of readFileSync(argument, "utf8").split("\n").filter(Boolean)) {
    const [, answer] = await post("/predict", line);
    bits.setFloat64(0, answer.probability);
    console.log(bits.getBigUint64(0).toString(16).padStart(16, "0"));
  }
}

// Golden rows through a client whose types openapi-typescript made of the server's document.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

type Row = components["schemas"]["Row"];

const [baseUrl, file] = process.argv.slice(2) as [string, string];
const rows: Row[] = JSON.parse(readFileSync(file, "utf-8"));
const client = createClient<paths>({ baseUrl });

const alone: number[] = [];
for (const row of rows) {
  const { data, error } = await client.POST("/predict", { body: row });
  if (error) throw new Error(error.detail);
  alone.push(data.probability);
}
const { data, error } = await client.POST("/predict/batch", { body: { rows } });
if (error) throw new Error(error.detail);
const { data: tensors } = await client.POST("/v2/models/{name}/infer", {
  params: { path: { name: "credit" } },
  body: {
    inputs: ["AMT_CREDIT", "AMT_INCOME_TOTAL", "AGE_YEARS"].map((name) => ({
      name: name as "AMT_CREDIT",
      shape: [2],
      datatype: "FP64" as const,
      data: [50, 60],
    })),
  },
});
const refused = await client.POST("/predict", { body: { ...rows[0]!, AMT_CREDIT: -1 } });
console.log(
  JSON.stringify({
    alone,
    batch: data.probabilities,
    outputs: tensors?.outputs.length,
    status: refused.error?.status,
  }),
);

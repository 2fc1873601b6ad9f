"""Golden rows through the client that openapi-python-client has made in a folder: what it reads, as JSON."""

import json
import sys
from pathlib import Path

url, folder = sys.argv[1:]
sys.path.insert(0, folder)

from generated_client import Client  # noqa: E402
from generated_client.api.inference_protocol import infer  # noqa: E402
from generated_client.api.scoring import explain, predict, predict_batch  # noqa: E402
from generated_client.models import InferenceRequest, PredictBatchJsonBody, Row  # noqa: E402

client = Client(base_url=url)
fields = json.loads((Path(folder) / "rows.json").read_text())
rows = [Row.from_dict(row) for row in fields]
tensor = {"name": "AMT_CREDIT", "shape": [2], "datatype": "FP64", "data": [513000, 98000]}
others = [
    {"name": name, "shape": [2], "datatype": "FP64", "data": [value] * 2}
    for name, value in (("AMT_INCOME_TOTAL", 1e5), ("AGE_YEARS", 40.0))
]
request = InferenceRequest.from_dict({"inputs": [tensor, *others]})
bad = Row.from_dict(fields[0] | {"AMT_CREDIT": -1})
print(
    json.dumps(
        {
            "alone": [predict.sync(client=client, body=row).probability for row in rows],
            "batch": predict_batch.sync(client=client, body=PredictBatchJsonBody(rows=rows)).probabilities,
            "reasons": len(explain.sync(client=client, body=rows[0]).reasons),
            "refused": predict.sync(client=client, body=bad).status,
            "outputs": len(infer.sync("credit", client=client, body=request).outputs),
        }
    )
)

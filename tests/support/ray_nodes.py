"""A Ray cluster of two nodes on this machine, for `.venv-ray`: `python -m tests.support.ray_nodes`.

Each node has one virtual core and its own raylet, all on 127.0.0.1. Standard output
gets a line of JSON at the start and for each line of standard input, which adds
a node; the cluster ends with standard input.
"""

import json
import os
import sys
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # keeps loopback addresses as they are
# Or the proxy asks only the replica beside it while that one keeps up, and the other is lost unnoticed.
os.environ["RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING"] = "0"

NODE: dict[str, Any] = {
    "num_cpus": 1,
    "object_store_memory": 100 * 2**20,
    "include_dashboard": False,
    "node_ip_address": "127.0.0.1",
}
#: A lost node is noticed within some seconds, a slow one is not taken for lost. Ray gives its workers the
#: priority 15: beside the other tests they would wait for a quarter of an hour.
SYSTEM = {
    "worker_niceness": 0,
    "health_check_initial_delay_ms": 2000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 10_000,
    "health_check_failure_threshold": 5,
}
#: Nobody scales this cluster, nor reads in the driver's terminal what its workers print.
HEAD: dict[str, Any] = {"_system_config": SYSTEM, "no_monitor": True, "include_log_monitor": False}


def main() -> None:
    """Start the nodes, and more as asked."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE | HEAD)
    try:
        _say(cluster, cluster.head_node)
        _say(cluster, cluster.add_node(**NODE))
        for _ in sys.stdin:
            _say(cluster, cluster.add_node(**NODE))
    finally:
        cluster.shutdown()


def _say(cluster: Any, node: Any) -> None:
    (raylet,) = node.all_processes["raylet"]
    print(json.dumps({"address": cluster.address, "raylet": raylet.process.pid}), flush=True)


if __name__ == "__main__":
    main()

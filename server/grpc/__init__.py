"""The Open Inference Protocol over gRPC, in a process of its own that asks the server over HTTP."""

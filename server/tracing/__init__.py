"""Spans of OpenTelemetry: noted by the workers, handed on by the observer, sent by a process of its own."""

"""Prometheus metrics of a service; each service has its own registry."""

import jax
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bertjax.serving.request_batcher import BatchFacts

_COMPILED = "/jax/core/compile/backend_compile_duration"  # what JAX reports after each program
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TOKENS = (16, 64, 256, 1024, 4096, 16384)
_REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128)


class ServiceMetrics:
    """The metrics of a service; their help texts say what each is."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "bertjax_requests", "Requests by the status of their answer.", ["route", "status"], registry=self._registry
        )
        self.request_seconds = Histogram(
            "bertjax_request_seconds",
            "Seconds from the head of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.texts = self._gauge("bertjax_texts", "Texts that are tokenized, wait or are computed.")
        self.queue_tokens = self._gauge("bertjax_queue_tokens", "Tokens that wait for their batch.")
        self.queue_seconds = self._histogram(
            "bertjax_queue_seconds", "Seconds that a tokenized request waited for its first batch.", _SECONDS
        )
        self.tokenizing_seconds = self._histogram(
            "bertjax_tokenizing_seconds", "Seconds that tokenizing a request took.", _SECONDS
        )
        self.computing_seconds = self._histogram(
            "bertjax_computing_seconds", "Seconds that computing a batch took.", _SECONDS
        )
        self.batch_requests = self._histogram("bertjax_batch_requests", "Requests in a batch.", _REQUESTS)
        self.batch_tokens = self._histogram("bertjax_batch_tokens", "Tokens in a batch, without padding.", _TOKENS)
        self.padding_share = self._gauge("bertjax_padding_share", "Share of padding in all batches so far.")
        self.compiles = Counter(
            "bertjax_compiles", "Programs that JAX has compiled or read from its cache.", registry=self._registry
        )
        self._tokens = self._computed_tokens = 0
        jax.monitoring.register_event_duration_secs_listener(self._count_compile)

    def observe_batch(self, facts: BatchFacts) -> None:
        """Counts a batch."""
        self.batch_requests.observe(facts.requests)
        self.batch_tokens.observe(facts.tokens)
        self.computing_seconds.observe(facts.seconds)
        self._tokens += facts.tokens
        for seconds in facts.waited:
            self.queue_seconds.observe(seconds)

    def observe_padded(self, tokens: int) -> None:
        """Counts the tokens of a batch, with its padding, before `observe_batch` does without."""
        self._computed_tokens += tokens

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        if self._computed_tokens:
            self.padding_share.set(max(0.0, 1 - self._tokens / self._computed_tokens))
        return generate_latest(self._registry)

    def close(self) -> None:
        """Counts no more compiles."""
        jax.monitoring.unregister_event_duration_listener(self._count_compile)

    def _count_compile(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILED:
            self.compiles.inc()

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self._registry)

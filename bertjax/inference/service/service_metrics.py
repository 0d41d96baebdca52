"""What a service counts, for Prometheus; each service has its own registry."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bertjax.inference.service.request_batcher import BatchFacts

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SIZES = (16, 64, 256, 1024, 4096, 16384, 65536)


class ServiceMetrics:
    """The metrics of a service; their help texts say what each is."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("bertjax_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.request_seconds = Histogram(
            "bertjax_request_seconds",
            "Seconds from the first byte of a request to its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting_tokens = Gauge("bertjax_queue_tokens", "Tokens that wait for their batch, now.", registry=registry)
        self.texts = Gauge("bertjax_texts", "Texts that wait or are computed, now.", registry=registry)
        self.queue_seconds = Histogram(
            "bertjax_queue_seconds",
            "Seconds from the arrival of a tokenized request to its first batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.tokenizing_seconds = Histogram(
            "bertjax_tokenizing_seconds", "Seconds that tokenizing a request took.", buckets=_SECONDS, registry=registry
        )
        self.computing_seconds = Histogram(
            "bertjax_computing_seconds", "Seconds that computing a batch took.", buckets=_SECONDS, registry=registry
        )
        self.batch_requests = Histogram(
            "bertjax_batch_requests", "Requests in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry
        )
        self.batch_tokens = Histogram(
            "bertjax_batch_tokens", "Tokens in a batch, without padding.", buckets=_SIZES, registry=registry
        )
        self.compiles = Counter("bertjax_compiles", "Programs that JAX compiled in this process.", registry=registry)

    def observe_batch(self, facts: BatchFacts) -> None:
        """Counts a batch."""
        self.batch_requests.observe(facts.requests)
        self.batch_tokens.observe(facts.tokens)
        self.computing_seconds.observe(facts.seconds)
        for seconds in facts.waited:
            self.queue_seconds.observe(seconds)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

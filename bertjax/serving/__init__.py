"""A model behind HTTP: `app` makes the ASGI application, `local_server` runs it, `request_batcher` joins requests."""

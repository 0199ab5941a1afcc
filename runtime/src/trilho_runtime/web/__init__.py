"""The small HTTP server under the model server and the router: bodies, answers, keys, counts and log notes."""

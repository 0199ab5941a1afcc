"""What callers speak: Vertex AI's contract, the Open Inference Protocol, labels, and the OpenAPI page of each."""

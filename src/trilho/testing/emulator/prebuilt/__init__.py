"""What Vertex AI's prebuilt images do: serve a model file. A folder of its own, since it is run by a path."""

"""The platform's web pages: server-rendered, live, for people and screen readers alike."""

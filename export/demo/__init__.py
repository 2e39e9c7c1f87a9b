"""The demo: embedded models, and a picture and a clip that go through them."""
